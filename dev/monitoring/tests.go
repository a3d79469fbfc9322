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

// The format of `promtool test rules`, as far as our rules need it.
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
	ExprTests      []exprTest  `yaml:"promql_expr_test"`
}

// What is looked at once its time has come.
type question interface {
	at() time.Duration
	look(p *prometheus, began time.Time, seen *tally) error
}

// How often alerts fired and did not where tests looked, and how many expressions were tried.
type tally struct {
	fired, quiet map[string]int
	expressions  int
}

type alertTest struct {
	EvalTime  model.Duration `yaml:"eval_time"`
	Alertname string         `yaml:"alertname"`
	ExpAlerts []struct {
		Labels      map[string]string `yaml:"exp_labels"`
		Annotations map[string]string `yaml:"exp_annotations"`
	} `yaml:"exp_alerts"`
}

type exprTest struct {
	Expr       string         `yaml:"expr"`
	EvalTime   model.Duration `yaml:"eval_time"`
	ExpSamples []struct {
		Labels string  `yaml:"labels"`
		Value  float64 `yaml:"value"`
	} `yaml:"exp_samples"`
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
	seen := tally{fired: map[string]int{}, quiet: map[string]int{}}
	var failures []error
	for _, group := range tests.Tests {
		every := time.Duration(tests.EvaluationInterval)
		if every == 0 {
			every = step
		}
		if err := group.run(rules, every, &seen); err != nil {
			failures = append(failures, fmt.Errorf("%s: %w", group.Name, err))
		}
	}
	groups, err := readRules(rules)
	if err != nil {
		return err
	}
	for _, group := range groups.Groups {
		for _, rule := range group.Rules {
			if rule.Alert != "" && (seen.fired[rule.Alert] == 0 || seen.quiet[rule.Alert] == 0) {
				failures = append(failures, fmt.Errorf("alert %s: %d tests while it fires and %d while it does not; it needs both",
					rule.Alert, seen.fired[rule.Alert], seen.quiet[rule.Alert]))
			}
		}
	}
	if len(failures) > 0 {
		return errors.Join(failures...)
	}
	fmt.Printf("%d alerts, %d expressions\n", len(seen.fired), seen.expressions)
	return nil
}

func (group testGroup) run(rules string, every time.Duration, seen *tally) error {
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
	var checks []question
	for _, one := range group.AlertRuleTests {
		checks = append(checks, one)
	}
	for _, one := range group.ExprTests {
		checks = append(checks, one)
	}
	sort.SliceStable(checks, func(i, j int) bool { return checks[i].at() < checks[j].at() })
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
		for len(checks) > 0 && checks[0].at() < at {
			failures = append(failures, checks[0].look(p, began, seen))
			checks = checks[1:]
		}
		if err := p.rules(groups, began.Add(at)); err != nil {
			return err
		}
	}
	return errors.Join(failures...)
}

func (t alertTest) at() time.Duration { return time.Duration(t.EvalTime) }

func (t alertTest) look(p *prometheus, _ time.Time, seen *tally) error {
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
		seen.fired[t.Alertname]++
	} else {
		seen.quiet[t.Alertname]++
	}
	if a, b := strings.Join(expected, "\n"), strings.Join(got, "\n"); a != b {
		return fmt.Errorf("%s after %s: expected\n%s\nand there is\n%s", t.Alertname, t.EvalTime, a, b)
	}
	return nil
}

func (t exprTest) at() time.Duration { return time.Duration(t.EvalTime) }

func (t exprTest) look(p *prometheus, began time.Time, seen *tally) error {
	found, err := p.query(t.Expr, began.Add(t.at()))
	if err != nil {
		return err
	}
	var expected, got []string
	for _, one := range t.ExpSamples {
		lset, err := expressions.ParseMetric(one.Labels)
		if err != nil {
			return fmt.Errorf("%s: %w", one.Labels, err)
		}
		expected = append(expected, fmt.Sprintf("  %s %g", lset, one.Value))
	}
	for _, one := range found {
		got = append(got, fmt.Sprintf("  %s %g", one.Metric, one.F))
	}
	seen.expressions++
	sort.Strings(expected)
	sort.Strings(got)
	if a, b := strings.Join(expected, "\n"), strings.Join(got, "\n"); a != b {
		return fmt.Errorf("%s after %s: expected\n%s\nand there is\n%s", t.Expr, t.EvalTime, a, b)
	}
	return nil
}
