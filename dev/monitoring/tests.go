package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
	"go.yaml.in/yaml/v3"
)

// The format of `promtool test rules`, as far as alerts need it.
type testFile struct {
	RuleFiles          []string       `yaml:"rule_files"`
	EvaluationInterval model.Duration `yaml:"evaluation_interval"`
	Tests              []testGroup    `yaml:"tests"`
}

type testGroup struct {
	Name        string         `yaml:"name"`
	Interval    model.Duration `yaml:"interval"`
	InputSeries []struct {
		Series string `yaml:"series"`
		Values string `yaml:"values"`
	} `yaml:"input_series"`
	AlertRuleTests []alertTest `yaml:"alert_rule_test"`
}

type alertTest struct {
	EvalTime  model.Duration `yaml:"eval_time"`
	Alertname string         `yaml:"alertname"`
	ExpAlerts []struct {
		Labels      map[string]string `yaml:"exp_labels"`
		Annotations map[string]string `yaml:"exp_annotations"`
	} `yaml:"exp_alerts"`
}

func test(file string) error {
	content, err := os.Open(file)
	if err != nil {
		return err
	}
	defer content.Close()
	decoder := yaml.NewDecoder(content)
	decoder.KnownFields(true)
	var tests testFile
	if err := decoder.Decode(&tests); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	if len(tests.RuleFiles) != 1 {
		return fmt.Errorf("%s: one file of rules is tested at a time", file)
	}
	rules := filepath.Join(filepath.Dir(file), tests.RuleFiles[0])
	fired, quiet := map[string]int{}, map[string]int{}
	var failures []error
	for _, group := range tests.Tests {
		every := time.Duration(tests.EvaluationInterval)
		if every == 0 {
			every = step
		}
		if err := group.run(rules, every, fired, quiet); err != nil {
			failures = append(failures, fmt.Errorf("%s: %w", group.Name, err))
		}
	}
	groups, err := readRules(rules)
	if err != nil {
		return err
	}
	for _, group := range groups.Groups {
		for _, rule := range group.Rules {
			if rule.Alert != "" && (fired[rule.Alert] == 0 || quiet[rule.Alert] == 0) {
				failures = append(failures, fmt.Errorf("alert %s: %d tests while it fires and %d while it does not; it needs both",
					rule.Alert, fired[rule.Alert], quiet[rule.Alert]))
			}
		}
	}
	if len(failures) > 0 {
		return errors.Join(failures...)
	}
	fmt.Printf("%d alerts\n", len(fired))
	return nil
}

func (group testGroup) run(rules string, every time.Duration, fired, quiet map[string]int) error {
	groups, err := readRules(rules)
	if err != nil {
		return err
	}
	p, began := newPrometheus(), time.Unix(0, 0).UTC()
	type input struct {
		labels labels.Labels
		values []parser.SequenceValue
	}
	var inputs []input
	series, ok := expressions.(interface {
		ParseSeriesDesc(string) (labels.Labels, []parser.SequenceValue, error)
	})
	if !ok {
		return errors.New("this parser reads no series")
	}
	for _, one := range group.InputSeries {
		lset, values, err := series.ParseSeriesDesc(one.Series + " " + one.Values)
		if err != nil {
			return fmt.Errorf("%s %s: %w", one.Series, one.Values, err)
		}
		inputs = append(inputs, input{lset, values})
	}
	interval := time.Duration(group.Interval)
	if interval == 0 {
		interval = every
	}
	checks := append([]alertTest{}, group.AlertRuleTests...)
	sort.SliceStable(checks, func(i, j int) bool { return checks[i].EvalTime < checks[j].EvalTime })
	if len(checks) == 0 {
		return errors.New("nothing is tested")
	}
	var failures []error
	next := 0
	for at := time.Duration(0); len(checks) > 0; at += every {
		for ; time.Duration(next)*interval <= at; next++ {
			for _, one := range inputs {
				if next < len(one.values) && !one.values[next].Omitted {
					p.add(one.labels, began.Add(time.Duration(next)*interval), one.values[next].Value)
				}
			}
		}
		// A check between two evaluations sees the one before.
		for len(checks) > 0 && time.Duration(checks[0].EvalTime) < at {
			failures = append(failures, checks[0].check(p, fired, quiet))
			checks = checks[1:]
		}
		if err := p.rules(groups, began.Add(at)); err != nil {
			return err
		}
	}
	return errors.Join(failures...)
}

func (t alertTest) check(p *prometheus, fired, quiet map[string]int) error {
	told := func(lset, annotations labels.Labels) string {
		return fmt.Sprintf("  %s %s", lset, annotations)
	}
	var expected, got []string
	for _, one := range t.ExpAlerts {
		lset := labels.NewBuilder(labels.FromMap(one.Labels)).Set(labels.AlertName, t.Alertname).Labels()
		expected = append(expected, told(lset, labels.FromMap(one.Annotations)))
	}
	for _, one := range p.alerts[t.Alertname] {
		if one.firing {
			got = append(got, told(one.labels, one.annotations))
		}
	}
	sort.Strings(expected)
	sort.Strings(got)
	if len(expected) > 0 {
		fired[t.Alertname]++
	} else {
		quiet[t.Alertname]++
	}
	if a, b := strings.Join(expected, "\n"), strings.Join(got, "\n"); a != b {
		return fmt.Errorf("%s after %s: expected\n%s\nand there is\n%s", t.Alertname, t.EvalTime, a, b)
	}
	return nil
}
