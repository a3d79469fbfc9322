package main

import (
	"context"
	"fmt"
	"net/url"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/template"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/util/annotations"
)

// Samples in memory, under Prometheus' engine.
type prometheus struct {
	engine *promql.Engine
	series map[uint64]*series
	alerts map[string]map[uint64]*alert
}

type series struct {
	labels  labels.Labels
	samples []chunks.Sample
}

// An alert that is pending or fires.
type alert struct {
	labels, annotations labels.Labels
	since               time.Time
	firing              bool
}

func newPrometheus() *prometheus {
	engine := promql.NewEngine(promql.EngineOpts{
		MaxSamples:           10_000_000,
		Timeout:              time.Minute,
		EnableAtModifier:     true,
		EnableNegativeOffset: true,
		Parser:               expressions,
	})
	return &prometheus{engine, map[uint64]*series{}, map[string]map[uint64]*alert{}}
}

func (p *prometheus) add(lset labels.Labels, at time.Time, value float64) {
	hash := lset.Hash()
	if p.series[hash] == nil {
		p.series[hash] = &series{labels: lset}
	}
	p.series[hash].samples = append(p.series[hash].samples, sample{at.UnixMilli(), value})
}

// What the expression yields at this time. What Prometheus would remark upon is an error.
func (p *prometheus) query(expr string, at time.Time) (promql.Vector, error) {
	query, err := p.engine.NewInstantQuery(context.Background(), p, nil, expr, at)
	if err != nil {
		return nil, err
	}
	defer query.Close()
	result := query.Exec(context.Background())
	if result.Err != nil {
		return nil, result.Err
	}
	for _, remark := range result.Warnings {
		return nil, fmt.Errorf("`%s`: %w", expr, remark)
	}
	switch value := result.Value.(type) {
	case promql.Vector:
		return append(promql.Vector{}, value...), nil
	case promql.Scalar:
		return promql.Vector{{T: value.T, F: value.V}}, nil
	}
	return nil, fmt.Errorf("`%s` yields neither vector nor scalar", expr)
}

// Evaluates every rule, as Prometheus does at this time.
func (p *prometheus) rules(groups *rulefmt.RuleGroups, at time.Time) error {
	for _, group := range groups.Groups {
		for _, rule := range group.Rules {
			found, err := p.query(rule.Expr, at)
			if err != nil {
				return fmt.Errorf("rule %s: %w", rule.Record+rule.Alert, err)
			}
			if rule.Alert != "" {
				if err := p.alert(rule, found, at); err != nil {
					return err
				}
				continue
			}
			for _, one := range found {
				builder := labels.NewBuilder(one.Metric).Set(labels.MetricName, rule.Record)
				for name, value := range rule.Labels {
					builder.Set(name, value)
				}
				p.add(builder.Labels(), at, one.F)
			}
		}
	}
	return nil
}

func (p *prometheus) alert(rule rulefmt.Rule, found promql.Vector, at time.Time) error {
	if rule.KeepFiringFor != 0 {
		return fmt.Errorf("alert %s: keep_firing_for is not known here", rule.Alert)
	}
	before, now := p.alerts[rule.Alert], map[uint64]*alert{}
	for _, one := range found {
		expand := func(text string) (string, error) {
			head := "{{$labels := .Labels}}{{$value := .Value}}"
			data := template.AlertTemplateData(one.Metric.Map(), nil, "", one)
			query := func(_ context.Context, expr string, at time.Time) (promql.Vector, error) { return p.query(expr, at) }
			return template.NewTemplateExpander(context.Background(), head+text, rule.Alert, data,
				model.TimeFromUnixNano(at.UnixNano()), query, &url.URL{}, nil).Expand()
		}
		builder := labels.NewBuilder(one.Metric).Del(labels.MetricName).Set(labels.AlertName, rule.Alert)
		annotations := map[string]string{}
		for name, text := range rule.Labels {
			value, err := expand(text)
			if err != nil {
				return fmt.Errorf("alert %s: label %s: %w", rule.Alert, name, err)
			}
			builder.Set(name, value)
		}
		for name, text := range rule.Annotations {
			value, err := expand(text)
			if err != nil {
				return fmt.Errorf("alert %s: annotation %s: %w", rule.Alert, name, err)
			}
			annotations[name] = value
		}
		lset := builder.Labels()
		hash := lset.Hash()
		if now[hash] != nil {
			return fmt.Errorf("alert %s: two of the labels %s", rule.Alert, lset)
		}
		since := at
		if known := before[hash]; known != nil {
			since = known.since
		}
		now[hash] = &alert{lset, labels.FromMap(annotations), since, at.Sub(since) >= time.Duration(rule.For)}
	}
	p.alerts[rule.Alert] = now
	return nil
}

// --- as a storage ---

func (p *prometheus) Querier(_, _ int64) (storage.Querier, error) { return p, nil }

func (p *prometheus) Select(_ context.Context, _ bool, _ *storage.SelectHints, matchers ...*labels.Matcher) storage.SeriesSet {
	set := &found{at: -1}
	for _, one := range p.series {
		fits := true
		for _, matcher := range matchers {
			fits = fits && matcher.Matches(one.labels.Get(matcher.Name))
		}
		if fits {
			set.all = append(set.all, storage.NewListSeries(one.labels, one.samples))
		}
	}
	return set
}

func (p *prometheus) LabelValues(context.Context, string, *storage.LabelHints, ...*labels.Matcher) ([]string, annotations.Annotations, error) {
	return nil, nil, nil
}

func (p *prometheus) LabelNames(context.Context, *storage.LabelHints, ...*labels.Matcher) ([]string, annotations.Annotations, error) {
	return nil, nil, nil
}

func (p *prometheus) Close() error { return nil }

type found struct {
	all []storage.Series
	at  int
}

func (f *found) Next() bool                        { f.at++; return f.at < len(f.all) }
func (f *found) At() storage.Series                { return f.all[f.at] }
func (f *found) Err() error                        { return nil }
func (f *found) Warnings() annotations.Annotations { return nil }

type sample struct {
	at    int64
	value float64
}

func (s sample) T() int64                      { return s.at }
func (s sample) ST() int64                     { return 0 }
func (s sample) F() float64                    { return s.value }
func (s sample) H() *histogram.Histogram       { return nil }
func (s sample) FH() *histogram.FloatHistogram { return nil }
func (s sample) Type() chunkenc.ValueType      { return chunkenc.ValFloat }
func (s sample) Copy() chunks.Sample           { return s }
