package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/textparse"
)

func evaluate(rules, dashboard string, rounds []string) error {
	groups, err := readRules(rules)
	if err != nil {
		return err
	}
	panels, err := readDashboard(dashboard)
	if err != nil {
		return err
	}
	p, at := newPrometheus(), time.Unix(0, 0).UTC()
	for _, round := range rounds {
		at = at.Add(step)
		targets, err := os.ReadDir(round)
		if err != nil {
			return err
		}
		for _, target := range targets {
			if err := p.scrape(filepath.Join(round, target.Name()), target.Name(), at); err != nil {
				return fmt.Errorf("%s of %s: %w", target.Name(), round, err)
			}
		}
		if err := p.rules(groups, at); err != nil {
			return err
		}
	}
	type yield struct {
		expression
		Series  int     `json:"series"`
		Highest float64 `json:"highest"`
	}
	var answer []yield
	ask := func(e expression) error {
		found, err := p.query(e.Expr, at)
		if err != nil {
			return fmt.Errorf("%s: %w", e.In, err)
		}
		one := yield{expression: e}
		for _, sample := range found {
			// A share of nothing is shown as a gap.
			if !math.IsNaN(sample.F) {
				one.Series++
				one.Highest = max(one.Highest, sample.F)
			}
		}
		answer = append(answer, one)
		return nil
	}
	for _, group := range groups.Groups {
		for _, rule := range group.Rules {
			if rule.Record != "" {
				if err := ask(expression{"rule " + rule.Record, rule.Record}); err != nil {
					return err
				}
			}
		}
	}
	for _, panel := range panels {
		if err := ask(panel); err != nil {
			return err
		}
	}
	return json.NewEncoder(os.Stdout).Encode(answer)
}

// Takes in an answer of /metrics. Labels of the program go before those of the target (`honor_labels`).
func (p *prometheus) scrape(file, instance string, at time.Time) error {
	content, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	// The operator answers in OpenMetrics, agents in the format before it.
	var lines textparse.Parser = textparse.NewPromParser(content, labels.NewSymbolTable(), false)
	if bytes.HasSuffix(content, []byte("# EOF\n")) {
		lines = textparse.NewOpenMetricsParser(content, labels.NewSymbolTable())
	}
	for {
		entry, err := lines.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if entry != textparse.EntrySeries {
			continue
		}
		_, _, value := lines.Series()
		var lset labels.Labels
		lines.Labels(&lset)
		builder := labels.NewBuilder(lset)
		if lset.Get("instance") == "" {
			builder.Set("instance", instance)
		}
		p.add(builder.Labels(), at, value)
	}
}
