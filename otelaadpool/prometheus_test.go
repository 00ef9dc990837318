package otelaadpool_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"github.com/aadpool/aadpool"
	"github.com/aadpool/aadpool/aadpooltest"
	"github.com/aadpool/aadpool/internal/azuretest"
	"github.com/aadpool/aadpool/internal/freeport"
	"github.com/aadpool/aadpool/otelaadpool"
)

// onPath returns the path of one of Prometheus's programs. Without AADPOOL_PROMETHEUS the test is skipped, since it
// needs what few have, and with it the program must be there.
func onPath(t *testing.T, program string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	switch {
	case os.Getenv("AADPOOL_PROMETHEUS") == "":
		t.Skip("set AADPOOL_PROMETHEUS=1 to have a Prometheus evaluate the alert rules and the dashboard (make " +
			"matrix-prometheus)")
	case err != nil:
		t.Fatalf("%s is not on PATH: on Debian and Ubuntu it is in the package prometheus", program)
	}
	return path
}

func TestEachAlertRuleFiresAndClears(t *testing.T) {
	text, err := os.ReadFile("alerts/aadpool_test.yaml")
	require.NoError(t, err)
	var unitTests struct {
		Tests []struct {
			AlertRuleTest []struct {
				Alertname string
				ExpAlerts []any `yaml:"exp_alerts"`
			} `yaml:"alert_rule_test"`
		}
	}
	require.NoError(t, yaml.Unmarshal(text, &unitTests))
	fires, clears := map[string]bool{}, map[string]bool{}
	for _, unitTest := range unitTests.Tests {
		for i, at := range unitTest.AlertRuleTest {
			if len(at.ExpAlerts) > 0 {
				fires[at.Alertname] = true
			} else if i > 0 && len(unitTest.AlertRuleTest[i-1].ExpAlerts) > 0 {
				clears[at.Alertname] = true
			}
		}
	}
	for _, rule := range readRules(t).Groups[0].Rules {
		assert.True(t, fires[rule.Alert] && clears[rule.Alert], "%s fires and clears in alerts/aadpool_test.yaml", rule.Alert)
	}

	out, err := exec.Command(onPath(t, "promtool"), "test", "rules", "alerts/aadpool_test.yaml").CombinedOutput()
	assert.NoError(t, err, "%s", out)
}

// A Prometheus scrapes a service through two rotations, refused logins and an outage of Entra. Then each query of the
// dashboard has something to show, and each alert has fired.
func TestDashboardAndAlertsOnAPrometheusThatHasScrapedAService(t *testing.T) {
	program := onPath(t, "prometheus")
	target := newTarget(t)
	service := httptest.NewServer(promhttp.HandlerFor(target.registry, promhttp.HandlerOpts{EnableOpenMetrics: true}))
	defer service.Close()
	server := startPrometheus(t, program, service.Listener.Addr().String())
	start := time.Now()
	live(t, target)
	server.waitForScrapeAt(t, time.Now())
	end := time.Now()

	dashboard, _ := readDashboard(t)
	var results []panelResult
	for _, panel := range dashboard.Panels {
		for _, query := range panel.Targets {
			series := server.query(t, inGrafana(query.Expr), start, end)
			assert.True(t, slices.ContainsFunc(series, hasValue), "%s, %s: %s", panel.Title, query.RefID, query.Expr)
			results = append(results, panelResult{panel, query.LegendFormat, series})
		}
	}
	for _, rule := range readRules(t).Groups[0].Rules {
		firing := fmt.Sprintf(`ALERTS{alertname=%q, alertstate="firing"}`, rule.Alert)
		assert.NotEmpty(t, server.query(t, firing, start, end), rule.Alert)
	}
	if path := os.Getenv("AADPOOL_PANELS"); path != "" { // for looking at the panels as pictures
		text, err := json.Marshal(results)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(path, text, 0o600))
	}
}

type panelResult struct {
	Panel  panel
	Legend string
	Series []series
}

// inGrafana is what Grafana makes of the query, of all jobs. The interval is that of four scrapes.
func inGrafana(expr string) string {
	return strings.NewReplacer("$job", ".*", "$__rate_interval", (4 * scrapeInterval).String()).Replace(expr)
}

// A series is one of a range query's: https://prometheus.io/docs/prometheus/latest/querying/api/#range-queries.
type series struct {
	Metric map[string]string
	Values [][2]any // a Unix time, and a number as a string
}

// hasValue reports whether there is something to see: a value that is not zero.
func hasValue(s series) bool {
	return slices.ContainsFunc(s.Values, func(v [2]any) bool {
		value, err := strconv.ParseFloat(fmt.Sprint(v[1]), 64)
		return err == nil && value != 0 && !math.IsNaN(value)
	})
}

// live has a service live through what the dashboard shows.
func live(t *testing.T, target target) {
	t.Helper()
	azure := azuretest.New(t)
	observer, err := otelaadpool.NewObserver(otelaadpool.WithMeterProvider(target.provider))
	require.NoError(t, err)
	config, err := pgxpool.ParseConfig(azure.DSN())
	require.NoError(t, err)
	config.MaxConns = 8
	pool, err := aadpool.NewWithConfig(t.Context(), config, azure.ShortLived(t, azuretest.NewShortLife(tokenLife)),
		aadpool.WithObserver(observer), aadpool.WithLogger(slog.New(slog.DiscardHandler)))
	require.NoError(t, err)
	defer pool.Close()
	hook, _ := aadpool.HookOf(pool)
	_, err = otelaadpool.Register(hook, otelaadpool.WithMeterProvider(target.provider))
	require.NoError(t, err)
	reaches := func(what string, reached func(aadpool.Stats) bool) {
		t.Helper()
		require.Eventually(t, func() bool {
			useAll(t, pool)
			return reached(hook.Stats())
		}, time.Minute, 50*time.Millisecond, what)
	}

	reaches("rotations", func(s aadpool.Stats) bool { return s.Fetches >= 3 && s.RetiredConns >= 16 })

	nobody, err := hook.NewPool(t.Context(), azure.Server.DSN("nobody"))
	require.NoError(t, err)
	defer nobody.Close()
	require.Error(t, nobody.Ping(t.Context()))
	azure.Server.SetFault(aadpooltest.RefuseLogins("28000",
		"The access token has expired. Acquire a new token and try again."))
	azure.Server.CloseConnections()
	reaches("refused logins", func(s aadpool.Stats) bool { return s.Refused >= 3 })
	azure.Server.SetFault(aadpooltest.Fault{})

	azure.SetFailure(aadpooltest.ServerError(503))
	reaches("an outage", func(s aadpool.Stats) bool { return s.FailedFetches >= 2 && time.Now().After(s.TokenExpires) })
	azure.SetFailure(aadpooltest.Failure{})
	azure.SetLatency(500 * time.Millisecond)
	fetches := hook.Stats().Fetches
	reaches("rotations after it", func(s aadpool.Stats) bool {
		return s.Fetches-s.FailedFetches >= 5 && s.Fetches >= fetches+2
	})
}

// useAll uses all connections of the pool at once, whatever comes of it.
func useAll(t *testing.T, pool *pgxpool.Pool) {
	var all sync.WaitGroup
	for range pool.Config().MaxConns {
		all.Go(func() { _, _ = pool.Exec(t.Context(), "select pg_sleep(0.01)") })
	}
	all.Wait()
}

// scrapeInterval is short, as the tokens' lives are.
const scrapeInterval = 500 * time.Millisecond

// A prometheusServer is a Prometheus by its address.
type prometheusServer string

// startPrometheus starts one that scrapes a service, and knows the alert rules, until the test ends.
func startPrometheus(t *testing.T, program, service string) prometheusServer {
	t.Helper()
	shipped, err := os.ReadFile("alerts/aadpool.yaml")
	require.NoError(t, err)
	dir := t.TempDir()
	rules := filepath.Join(dir, "aadpool.yaml")
	atOnce := bytes.ReplaceAll(shipped, []byte("for: 5m"), []byte("for: 0s")) // promtool's test sees to the five minutes
	require.NoError(t, os.WriteFile(rules, atOnce, 0o600))
	config := fmt.Sprintf(`
global: {scrape_interval: %[1]v, scrape_timeout: %[1]v, evaluation_interval: 1s}
rule_files: [%[2]s]
scrape_configs: [{job_name: orders, static_configs: [{targets: [%[3]q]}]}]
`, scrapeInterval, rules, service)
	file := filepath.Join(dir, "prometheus.yml")
	require.NoError(t, os.WriteFile(file, []byte(config), 0o600))
	address := freeport.For(t)
	cmd := exec.Command(program, "--config.file", file, "--storage.tsdb.path", filepath.Join(dir, "data"),
		"--web.listen-address", address)
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		_ = cmd.Wait()
		if t.Failed() {
			t.Log(log.String())
		}
	})
	server := prometheusServer(address)
	require.Eventually(t, func() bool {
		_, err := server.get(t, "/-/ready", nil)
		return err == nil
	}, time.Minute, 100*time.Millisecond, "Prometheus is ready")
	return server
}

func (p prometheusServer) get(t *testing.T, path string, parameters url.Values) ([]byte, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, "GET", "http://"+string(p)+path+"?"+parameters.Encode(), nil)
	require.NoError(t, err)
	request.Close = true
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	var body bytes.Buffer
	if _, err := body.ReadFrom(response.Body); err != nil {
		return nil, err
	}
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s", response.Status, body.String())
	}
	return body.Bytes(), nil
}

// query evaluates a query at each second from start to end.
func (p prometheusServer) query(t *testing.T, expr string, start, end time.Time) []series {
	t.Helper()
	body, err := p.get(t, "/api/v1/query_range", url.Values{
		"query": {expr}, "start": {start.Format(time.RFC3339Nano)}, "end": {end.Format(time.RFC3339Nano)}, "step": {"1s"},
	})
	require.NoError(t, err, expr)
	var answer struct {
		Data struct{ Result []series }
	}
	require.NoError(t, json.Unmarshal(body, &answer))
	return answer.Data.Result
}

// waitForScrapeAt waits for what the service said after this time.
func (p prometheusServer) waitForScrapeAt(t *testing.T, at time.Time) {
	t.Helper()
	require.Eventually(t, func() bool {
		series := p.query(t, "timestamp(up)", time.Now(), time.Now())
		if len(series) != 1 {
			return false
		}
		scraped, err := strconv.ParseFloat(fmt.Sprint(series[0].Values[0][1]), 64)
		return err == nil && scraped > float64(at.UnixMilli())/1000
	}, time.Minute, 100*time.Millisecond, "a scrape after %s", at)
}
