package otelaadpool_test

import (
	"bytes"
	"encoding/json"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
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

// exportedNames are the names, and the labels, that Prometheus is given.
func exportedNames(t *testing.T) (names, labels []string) {
	t.Helper()
	target := newTarget(t)
	_, err := otelaadpool.Register(&everything, otelaadpool.WithMeterProvider(target.provider))
	require.NoError(t, err)
	families, err := target.registry.Gather()
	require.NoError(t, err)
	for _, family := range families {
		names = append(names, family.GetName())
		for _, metric := range family.GetMetric() {
			for _, pair := range metric.GetLabel() {
				labels = append(labels, pair.GetName())
			}
		}
	}
	require.Len(t, names, 6)
	return names, labels
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

func TestDashboardShowsWhatIsExportedAndNothingElse(t *testing.T) {
	text, err := os.ReadFile("dashboards/aadpool.json")
	require.NoError(t, err)
	var dashboard struct {
		Panels []struct {
			ID          int
			Title       string
			Description string
			Targets     []struct{ Expr string }
		}
	}
	require.NoError(t, json.Unmarshal(text, &dashboard))
	names, labels := exportedNames(t)
	var expressions strings.Builder
	ids := map[int]bool{}
	for _, panel := range dashboard.Panels {
		assert.False(t, ids[panel.ID], "panel %d is there twice", panel.ID)
		ids[panel.ID] = true
		assert.NotEmpty(t, panel.Description, panel.Title)
		require.NotEmpty(t, panel.Targets, panel.Title)
		for _, target := range panel.Targets {
			expressions.WriteString(target.Expr + "\n")
			assertLabels(t, target.Expr, labels)
		}
	}
	assert.Equal(t, names, found(prometheusName, expressions.String()))
	assert.Subset(t, names, found(prometheusName, string(text)), "variables too")
}

// groups are Prometheus's alerting rules.
type groups struct {
	Groups []struct {
		Name  string
		Rules []struct {
			Alert, Expr         string
			Labels, Annotations map[string]string
		}
	}
}

func TestAlertsAreOnWhatIsExported(t *testing.T) {
	text, err := os.ReadFile("alerts/aadpool.yaml")
	require.NoError(t, err)
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	decoder.KnownFields(true)
	var rules groups
	require.NoError(t, decoder.Decode(&rules))
	require.Len(t, rules.Groups, 1)
	require.NotEmpty(t, rules.Groups[0].Rules)
	names, labels := exportedNames(t)
	for _, rule := range rules.Groups[0].Rules {
		used := found(prometheusName, rule.Expr)
		assert.NotEmpty(t, used, rule.Alert)
		assert.Subset(t, names, used, rule.Alert)
		assertLabels(t, rule.Expr, labels)
		assert.NotEmpty(t, rule.Annotations["summary"], rule.Alert)
	}
}

func TestDocumentationNamesWhatIsExportedAndNothingElse(t *testing.T) {
	reader := sdkmetric.NewManualReader()
	_, err := otelaadpool.Register(&everything, otelaadpool.WithMeterProvider(sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader))))
	require.NoError(t, err)
	var collected metricdata.ResourceMetrics
	require.NoError(t, reader.Collect(t.Context(), &collected))
	units := map[string]string{}
	for _, metric := range collected.ScopeMetrics[0].Metrics {
		units[metric.Name] = metric.Unit
	}
	names := slices.Sorted(maps.Keys(units))
	prometheusNames, _ := exportedNames(t)

	readme, err := os.ReadFile("README.md")
	require.NoError(t, err)
	assert.Equal(t, names, found(otelName, string(readme)))
	assert.Equal(t, prometheusNames, found(prometheusName, string(readme)))
	doc, err := os.ReadFile("doc.go")
	require.NoError(t, err)
	assert.Equal(t, names, found(otelName, string(doc)))
	assert.Subset(t, prometheusNames, found(prometheusName, string(doc)))
	for name, unit := range units {
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
