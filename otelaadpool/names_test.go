package otelaadpool_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.yaml.in/yaml/v3"

	"github.com/aadpool/aadpool/otelaadpool"
)

var (
	prometheusName = regexp.MustCompile(`\baadpool_\w+`)
	otelName       = regexp.MustCompile(`\baadpool\.[a-z_]+\.[a-z_.]+[a-z]\b`)
	matchers       = regexp.MustCompile(`\{([^}]*)\}`)
	label          = regexp.MustCompile(`(\w+)\s*[!=]~?`)
)

// everything is a Source with a value for each metric.
var everything = stats{TokenExpires: time.Now().Add(time.Hour), Fetches: 1}

// exported is the names of all that is exported, by Register and by an Observer.
type exported struct {
	units            map[string]string // by metric
	attributes       []string          // of metrics and spans
	prometheusSeries []string          // those of a histogram each with its suffix
	prometheusNames  []string          // a histogram's without
	labels           []string
}

func exportedNames(t *testing.T) exported {
	t.Helper()
	target, trace := newTarget(t), newTrace()
	_, err := otelaadpool.Register(&everything, otelaadpool.WithMeterProvider(target.provider))
	require.NoError(t, err)
	observer, err := otelaadpool.NewObserver(otelaadpool.WithMeterProvider(target.provider),
		otelaadpool.WithTracerProvider(trace.provider))
	require.NoError(t, err)
	emitAll(observer, errors.New("no"))
	emitAll(observer, nil)
	e := exported{units: map[string]string{}}
	e.addPrometheus(t, target)
	e.addMetrics(t, target)
	for _, span := range trace.recorder.Ended() {
		for _, a := range span.Attributes() {
			e.attributes = append(e.attributes, string(a.Key))
		}
	}
	slices.Sort(e.attributes)
	e.attributes = slices.Compact(e.attributes)
	return e
}

func (e *exported) addPrometheus(t *testing.T, target target) {
	t.Helper()
	families, err := target.registry.Gather()
	require.NoError(t, err)
	for _, family := range families {
		e.prometheusNames = append(e.prometheusNames, family.GetName())
		if family.GetType() == dto.MetricType_HISTOGRAM {
			e.labels = append(e.labels, "le")
			for _, suffix := range []string{"_bucket", "_count", "_sum"} {
				e.prometheusSeries = append(e.prometheusSeries, family.GetName()+suffix)
			}
		} else {
			e.prometheusSeries = append(e.prometheusSeries, family.GetName())
		}
		for _, metric := range family.GetMetric() {
			for _, pair := range metric.GetLabel() {
				e.labels = append(e.labels, pair.GetName())
			}
		}
	}
}

func (e *exported) addMetrics(t *testing.T, target target) {
	t.Helper()
	var collected metricdata.ResourceMetrics
	require.NoError(t, target.reader.Collect(t.Context(), &collected))
	for _, metric := range collected.ScopeMetrics[0].Metrics {
		e.units[metric.Name] = metric.Unit
		for _, set := range attributeSets(metric.Data) {
			for _, a := range set.ToSlice() {
				e.attributes = append(e.attributes, string(a.Key))
			}
		}
	}
	require.Len(t, e.units, 10)
}

func attributeSets(data metricdata.Aggregation) (sets []attribute.Set) {
	switch data := data.(type) {
	case metricdata.Sum[int64]:
		for _, point := range data.DataPoints {
			sets = append(sets, point.Attributes)
		}
	case metricdata.Histogram[float64]:
		for _, point := range data.DataPoints {
			sets = append(sets, point.Attributes)
		}
	}
	return sets
}

// found are the distinct matches of pattern in text, in order.
func found(pattern *regexp.Regexp, text string) []string {
	seen := map[string]bool{}
	for _, match := range pattern.FindAllString(text, -1) {
		seen[match] = true
	}
	return slices.Sorted(maps.Keys(seen))
}

// assertLabels checks the labels that PromQL selects by: those that are exported, and those that a scrape adds.
func assertLabels(t *testing.T, promQL string, exported []string) {
	t.Helper()
	known := append([]string{"job", "instance"}, exported...)
	for _, braces := range matchers.FindAllStringSubmatch(promQL, -1) {
		for _, match := range label.FindAllStringSubmatch(braces[1], -1) {
			assert.Contains(t, known, match[1], promQL)
		}
	}
}

// A dashboard is Grafana's, as far as it is looked at here.
type dashboard struct {
	Panels []panel
}

type panel struct {
	ID                       int
	Title, Description, Type string
	Targets                  []struct{ Expr, LegendFormat, RefID string }
}

// readDashboard returns the dashboard without its headings, and its text.
func readDashboard(t *testing.T) (dashboard, string) {
	t.Helper()
	text, err := os.ReadFile("dashboards/aadpool.json")
	require.NoError(t, err)
	var d dashboard
	require.NoError(t, json.Unmarshal(text, &d))
	d.Panels = slices.DeleteFunc(d.Panels, func(p panel) bool { return p.Type == "row" })
	return d, string(text)
}

func TestDashboardShowsWhatIsExportedAndNothingElse(t *testing.T) {
	dashboard, text := readDashboard(t)
	names := exportedNames(t)
	var expressions strings.Builder
	ids := map[int]bool{}
	for _, panel := range dashboard.Panels {
		assert.False(t, ids[panel.ID], "panel %d is there twice", panel.ID)
		ids[panel.ID] = true
		assert.NotEmpty(t, panel.Description, panel.Title)
		require.NotEmpty(t, panel.Targets, panel.Title)
		for _, target := range panel.Targets {
			expressions.WriteString(target.Expr + "\n")
			assertLabels(t, target.Expr, names.labels)
		}
	}
	used := found(prometheusName, expressions.String())
	assert.Subset(t, slices.Concat(names.prometheusSeries, names.labels), used)
	for _, name := range names.prometheusNames {
		assert.True(t, slices.ContainsFunc(used, func(series string) bool { return strings.HasPrefix(series, name) }), name)
	}
	assert.Subset(t, slices.Concat(names.prometheusSeries, names.labels), found(prometheusName, text),
		"variables and legends too")
}

// groups are Prometheus's alerting rules.
type groups struct {
	Groups []struct {
		Name  string
		Rules []struct {
			Alert, Expr, For    string
			Labels, Annotations map[string]string
		}
	}
}

func readRules(t *testing.T) groups {
	t.Helper()
	text, err := os.ReadFile("alerts/aadpool.yaml")
	require.NoError(t, err)
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	decoder.KnownFields(true)
	var rules groups
	require.NoError(t, decoder.Decode(&rules))
	require.Len(t, rules.Groups, 1)
	require.NotEmpty(t, rules.Groups[0].Rules)
	return rules
}

func TestAlertsAreOnWhatIsExported(t *testing.T) {
	rules := readRules(t)
	names := exportedNames(t)
	for _, rule := range rules.Groups[0].Rules {
		used := found(prometheusName, rule.Expr)
		assert.NotEmpty(t, used, rule.Alert)
		assert.Subset(t, names.prometheusSeries, used, rule.Alert)
		assertLabels(t, rule.Expr, names.labels)
		assert.NotEmpty(t, rule.Annotations["summary"], rule.Alert)
		assertRunbook(t, rule.Alert, rule.Annotations["runbook_url"])
	}
}

// assertRunbook fails the test if the page has no such heading.
func assertRunbook(t *testing.T, alert, link string) {
	t.Helper()
	path, ok := strings.CutPrefix(link, "https://github.com/aadpool/aadpool/blob/main/")
	require.True(t, ok, "%s: %q", alert, link)
	file, anchor, _ := strings.Cut(path, "#")
	page, err := os.ReadFile("../" + file)
	require.NoError(t, err, alert)
	heading := regexp.MustCompile("(?mi)^#+ " + strings.ReplaceAll(regexp.QuoteMeta(anchor), "-", "[ -]") + "$")
	assert.Regexp(t, heading, strings.NewReplacer("'", "", ",", "").Replace(string(page)), alert)
}

func TestDocumentationNamesWhatIsExportedAndNothingElse(t *testing.T) {
	exported := exportedNames(t)
	names := slices.Sorted(maps.Keys(exported.units))
	ours := slices.DeleteFunc(slices.Clone(exported.attributes), func(name string) bool {
		return !strings.HasPrefix(name, "aadpool.")
	})

	readme, err := os.ReadFile("README.md")
	require.NoError(t, err)
	assert.ElementsMatch(t, append(ours, names...), found(otelName, string(readme)))
	assert.Subset(t, found(prometheusName, string(readme)), exported.prometheusNames)
	assert.Subset(t, slices.Concat(exported.prometheusNames, exported.labels), found(prometheusName, string(readme)))
	doc, err := os.ReadFile("doc.go")
	require.NoError(t, err)
	assert.ElementsMatch(t, append(ours, names...), found(otelName, string(doc)))
	assert.Subset(t, exported.prometheusNames, found(prometheusName, string(doc)))
	for _, name := range exported.attributes {
		assert.Contains(t, string(readme), "`"+name+"`")
		assert.Contains(t, string(doc), name)
	}
	for name, unit := range exported.units {
		assert.Regexp(t, "(?m)^.*`"+regexp.QuoteMeta(name)+"`.*`"+regexp.QuoteMeta(unit)+"`.*$", string(readme))
		assert.Regexp(t, `(?m)^.*`+regexp.QuoteMeta(name)+`\s+\w+\s+`+regexp.QuoteMeta(unit)+`\s.*$`, string(doc))
	}
}

func TestReadmeShowsTheAlertRuleAsItIs(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	require.NoError(t, err)
	block := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindSubmatch(readme)
	require.NotNil(t, block)
	alerts, err := os.ReadFile("alerts/aadpool.yaml")
	require.NoError(t, err)
	assert.Equal(t, string(alerts), string(block[1]))
}
