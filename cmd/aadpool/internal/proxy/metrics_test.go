package proxy

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	dto "github.com/prometheus/client_model/go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool"
	"github.com/aadpool/aadpool/aadpooltest"
)

// shipped has what is shipped for Prometheus and Grafana.
const shipped = "../../../../otelaadpool"

var seriesName = regexp.MustCompile(`\baadpool_\w+`)

// seriesOf are the names of all series that the proxy exports, with their labels.
func seriesOf(t *testing.T, p *upstream) (names, labels []string) {
	families, err := p.proxy.config.Telemetry.Gatherer().Gather()
	require.NoError(t, err)
	for _, f := range families {
		names = append(names, f.GetName())
		if f.GetType() == dto.MetricType_HISTOGRAM {
			names = append(names, f.GetName()+"_bucket", f.GetName()+"_count", f.GetName()+"_sum")
			labels = append(labels, "le")
		}
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				labels = append(labels, l.GetName())
			}
		}
	}
	return names, append(labels, "job", "instance")
}

func proxyWithAToken(t *testing.T, life time.Duration) (azure, *upstream) {
	a := newAzure(t)
	a.SetTokenLife(life)
	config := a.config(t, a.credential(t))
	config.Name, config.Identity = "orders", "environment"
	p, _ := startProxy(t, config)
	eventually(t, "there is a token", func() bool { return p.config.Hook.Stats().Fetches > 0 })
	// Before a session nothing has taken any time, and it is passed on when that has been noted.
	assert.Equal(t, 1, ask[int](t, connectTo(t, p.socketDSN()), "select 1"))
	return a, p
}

// What is shipped for a pool serves a proxy, too.
func TestMetricsHaveThePoolsNames(t *testing.T) {
	_, p := proxyWithAToken(t, time.Hour)
	exported, labels := seriesOf(t, p)
	readme, err := os.ReadFile(filepath.Join(shipped, "README.md"))
	require.NoError(t, err)
	_, table, _ := strings.Cut(string(readme), "Of `Register`:")
	table, _, _ = strings.Cut(table, "Of `NewObserver`:")
	ofAPool := seriesName.FindAllString(table, -1)
	require.NotEmpty(t, ofAPool)
	for _, name := range ofAPool {
		assert.Contains(t, exported, name)
	}
	for _, name := range exported {
		if strings.HasPrefix(name, "aadpool_") && !strings.HasPrefix(name, "aadpool_proxy_") {
			assert.Contains(t, ofAPool, name)
		}
	}
	assert.Subset(t, labels, []string{"error_type", "identity", "upstream"})

	rules, err := os.ReadFile(filepath.Join(shipped, "alerts/aadpool.yaml"))
	require.NoError(t, err)
	used := seriesName.FindAllString(string(rules), -1)
	require.NotEmpty(t, used)
	assert.Subset(t, exported, used)
}

// A panel is Grafana's, as far as it is looked at here.
type panel struct {
	Title, Description string
	Targets            []struct{ Expr string }
}

func readPanels(t *testing.T) []panel {
	text, err := os.ReadFile(filepath.Join(shipped, "dashboards/aadpool-proxy.json"))
	require.NoError(t, err)
	var dashboard struct{ Panels []panel }
	require.NoError(t, json.Unmarshal(text, &dashboard))
	require.NotEmpty(t, dashboard.Panels)
	return dashboard.Panels
}

func TestDashboardOfAProxyShowsWhatIsExportedAndNothingElse(t *testing.T) {
	_, p := proxyWithAToken(t, time.Hour)
	exported, labels := seriesOf(t, p)
	var shown []string
	for _, panel := range readPanels(t) {
		assert.NotEmpty(t, panel.Description, panel.Title)
		for _, target := range panel.Targets {
			shown = append(shown, seriesName.FindAllString(target.Expr, -1)...)
			for _, match := range regexp.MustCompile(`(\w+)=~?"|by \((\w+)\)`).FindAllStringSubmatch(target.Expr, -1) {
				assert.Contains(t, labels, match[1]+match[2], target.Expr)
			}
		}
	}
	assert.Subset(t, exported, shown)
	for _, name := range exported {
		isSuffixed := strings.HasSuffix(name, "_bucket") || strings.HasSuffix(name, "_count") ||
			strings.HasSuffix(name, "_sum")
		if strings.HasPrefix(name, "aadpool_proxy_") && !isSuffixed {
			assert.True(t, slices.ContainsFunc(shown, func(s string) bool { return strings.HasPrefix(s, name) }), name)
		}
	}
}

// A phase of a proxy's life, as a scrape has seen it: samples by series.
type scrape map[string]float64

func scrapeNow(t *testing.T, p *upstream) scrape {
	families, err := p.proxy.config.Telemetry.Gatherer().Gather()
	require.NoError(t, err)
	s := scrape{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			labels := []string{`job="orders"`, `instance="a"`}
			for _, l := range m.GetLabel() {
				labels = append(labels, fmt.Sprintf("%s=%q", l.GetName(), l.GetValue()))
			}
			if f.GetType() != dto.MetricType_HISTOGRAM && strings.HasPrefix(f.GetName(), "aadpool_") {
				s[f.GetName()+"{"+strings.Join(labels, ",")+"}"] = m.GetGauge().GetValue() + m.GetCounter().GetValue()
			}
		}
	}
	return s
}

// TestAlertsFireForAProxy has Prometheus evaluate the shipped alerts on what a proxy said while Entra was down, and
// while the server refused logins.
func TestAlertsFireForAProxy(t *testing.T) {
	if os.Getenv("AADPOOL_PROMETHEUS") == "" {
		t.Skip("make matrix-prometheus runs this")
	}
	promtool, err := exec.LookPath("promtool")
	require.NoError(t, err, "it is in Debian's package prometheus")
	a, p := proxyWithAToken(t, 10*time.Second)
	well := scrapeNow(t, p)
	reaches := func(what string, reached func(aadpool.Stats) bool) {
		require.Eventually(t, func() bool { return reached(p.config.Hook.Stats()) }, time.Minute, 10*time.Millisecond, what)
	}
	a.SetFailure(aadpooltest.ServerError(503))
	reaches("an outage", func(s aadpool.Stats) bool { return s.FailedFetches > 0 && time.Now().After(s.TokenExpires) })
	outage := scrapeNow(t, p)
	a.SetFailure(aadpooltest.Failure{})
	reaches("the end of it", func(s aadpool.Stats) bool { return time.Now().Before(s.TokenExpires) })
	a.server.SetFault(aadpooltest.RefuseLogins("28P01", "password authentication failed"))
	_, err = pgx.Connect(t.Context(), p.socketDSN())
	require.Error(t, err)
	refused := scrapeNow(t, p)

	var input bytes.Buffer
	for series := range refused {
		fmt.Fprintf(&input, "      - {series: '%s', values: '%gx19 %gx19 %gx79'}\n", series, well[series], outage[series],
			refused[series])
	}
	rules, err := filepath.Abs(filepath.Join(shipped, "alerts/aadpool.yaml"))
	require.NoError(t, err)
	test := fmt.Sprintf(`rule_files: [%s]
evaluation_interval: 30s
tests:
  - interval: 30s
    input_series:
%s    promql_expr_test:
`, rules, &input)
	for _, at := range []struct {
		minute          int
		failing, denied int
	}{{9, 0, 0}, {12, 1, 0}, {19, 0, 0}, {22, 0, 1}, {45, 0, 0}} {
		for alert, count := range map[string]int{"AadpoolTokenRefreshFailing": at.failing,
			"AadpoolLoginsRejected": at.denied} {
			test += fmt.Sprintf("      - {expr: 'count(ALERTS{alertname=\"%s\", alertstate=\"firing\"}) or vector(0)', "+
				"eval_time: %dm, exp_samples: [{labels: '{}', value: %d}]}\n",
				alert, at.minute, count)
		}
	}
	inGrafana := strings.NewReplacer("$job", ".*", "$upstream", "orders", "$__rate_interval", "2m")
	for _, panel := range readPanels(t) {
		for _, target := range panel.Targets {
			if !strings.Contains(target.Expr, "_bucket") { // histograms are not among the series
				test += fmt.Sprintf("      - {expr: 'count(%s) > bool 0', eval_time: 22m, exp_samples: [{labels: '{}', value: "+
					"1}]}\n", inGrafana.Replace(target.Expr))
			}
		}
	}
	file := filepath.Join(t.TempDir(), "proxy_test.yaml")
	require.NoError(t, os.WriteFile(file, []byte(test), 0o600))
	out, err := exec.Command(promtool, "test", "rules", file).CombinedOutput()
	assert.NoError(t, err, "%s\n%s", out, test)
}
