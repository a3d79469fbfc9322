// Does with alert rules and a dashboard what Prometheus and Grafana do, with Prometheus' own parser and engine. `promtool` would do
// the first two, too, and brings four times as many packages to compile.
//
//	monitoring check RULES DASHBOARD
//	    Parses the rules and every expression of both. Prints each expression with the metrics that it names and, of each, the
//	    labels, in JSON.
//	monitoring test TESTS
//	    Unit tests of alert rules, in the format of `promtool test rules`. Every alert has to be tried while it fires and while it
//	    does not.
//	monitoring evaluate RULES DASHBOARD ROUND...
//	    Prometheus among what programs told: each round is a folder with an answer of /metrics per target, named after the target,
//	    and is a minute after the one before. Evaluates the rules at each, and the expressions of the dashboard at the last.
//	    Prints of each how many series it yields and the highest value, in JSON.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/parser"
)

// Between rounds, and between evaluations in tests that say nothing else.
const step = time.Minute

var expressions = parser.NewParser(parser.Options{})

func main() {
	err := errors.New("usage: monitoring check RULES DASHBOARD | test TESTS | evaluate RULES DASHBOARD ROUND...")
	args := os.Args[1:]
	switch {
	case len(args) == 3 && args[0] == "check":
		err = check(args[1], args[2])
	case len(args) == 2 && args[0] == "test":
		err = test(args[1])
	case len(args) > 3 && args[0] == "evaluate":
		err = evaluate(args[1], args[2], args[3:])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func readRules(file string) (*rulefmt.RuleGroups, error) {
	groups, errs := rulefmt.ParseFile(file, false, model.LegacyValidation, expressions, slog.New(slog.DiscardHandler))
	return groups, errors.Join(errs...)
}

// An expression, and where it stands.
type expression struct {
	In   string `json:"in"`
	Expr string `json:"expr"`
}

// Expressions of the panels of a dashboard, with its variables as `All`, and of the variables themselves.
func readDashboard(file string) ([]expression, error) {
	content, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	type panel struct {
		Title   string
		Targets []struct{ Expr string }
		Panels  []panel
	}
	var dashboard struct {
		Panels     []panel
		Templating struct {
			List []struct{ Name, Type, Query string }
		}
	}
	if err := json.Unmarshal(content, &dashboard); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	var found []expression
	var variables []string
	for _, v := range dashboard.Templating.List {
		if v.Type != "query" {
			continue
		}
		variables = append(variables, "$"+v.Name, ".*")
		inner, ok := strings.CutPrefix(v.Query, "label_values(")
		inner, rest := strings.CutSuffix(inner, ")")
		comma := strings.LastIndex(inner, ",")
		if !ok || !rest || comma < 0 {
			return nil, fmt.Errorf("variable %s: `%s` is not label_values(expression, label)", v.Name, v.Query)
		}
		label := strings.TrimSpace(inner[comma+1:])
		found = append(found, expression{"variable " + v.Name, fmt.Sprintf("group by (%s) (%s)", label, inner[:comma])})
	}
	var walk func([]panel)
	walk = func(panels []panel) {
		for _, p := range panels {
			for _, target := range p.Targets {
				found = append(found, expression{"panel " + p.Title, target.Expr})
			}
			walk(p.Panels)
		}
	}
	walk(dashboard.Panels)
	all := strings.NewReplacer(variables...)
	for i := range found {
		found[i].Expr = all.Replace(found[i].Expr)
	}
	return found, nil
}

// --- check ---

func check(rules, dashboard string) error {
	groups, err := readRules(rules)
	if err != nil {
		return err
	}
	found, err := readDashboard(dashboard)
	if err != nil {
		return err
	}
	for _, group := range groups.Groups {
		for _, rule := range group.Rules {
			found = append(found, expression{"rule " + rule.Record + rule.Alert, rule.Expr})
		}
	}
	type metric struct {
		Name   string   `json:"name"`
		Labels []string `json:"labels"`
	}
	type checked struct {
		expression
		Metrics []metric `json:"metrics"`
	}
	var answer []checked
	for _, e := range found {
		parsed, err := expressions.ParseExpr(e.Expr)
		if err != nil {
			return fmt.Errorf("%s: `%s`: %w", e.In, e.Expr, err)
		}
		one := checked{expression: e}
		parser.Inspect(parsed, func(node parser.Node, path []parser.Node) error {
			selector, ok := node.(*parser.VectorSelector)
			if !ok {
				return nil
			}
			named := []string{}
			for _, matcher := range selector.LabelMatchers {
				if matcher.Name != labels.MetricName {
					named = append(named, matcher.Name)
				}
			}
			// What aggregations and matches around it go by, it has to have.
			for _, around := range path {
				switch around := around.(type) {
				case *parser.AggregateExpr:
					if !around.Without {
						named = append(named, around.Grouping...)
					}
				case *parser.BinaryExpr:
					if around.VectorMatching != nil && around.VectorMatching.On {
						named = append(named, around.VectorMatching.MatchingLabels...)
					}
				}
			}
			one.Metrics = append(one.Metrics, metric{selector.Name, named})
			return nil
		})
		answer = append(answer, one)
	}
	return json.NewEncoder(os.Stdout).Encode(answer)
}
