package otelaadpool_test

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"

	"github.com/aadpool/aadpool"
	"github.com/aadpool/aadpool/otelaadpool"
)

// stats is a Source that says what a test wants.
type stats aadpool.Stats

func (s *stats) Stats() aadpool.Stats { return aadpool.Stats(*s) }

// samples are the lines of what is exported that hold a value.
func samples(exposition string) []string {
	lines := []string{}
	for line := range strings.Lines(exposition) {
		if !strings.HasPrefix(line, "#") {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	return lines
}

func TestWhatIsExported(t *testing.T) {
	for _, row := range []struct {
		name  string
		stats func() stats
		want  []string
	}{
		{
			"before the first token there are counts, and nothing that could be taken for a token's end",
			func() stats { return stats{} },
			[]string{
				`aadpool_connection_retirements_total 0`,
				`aadpool_login_refused_total 0`,
				`aadpool_token_fetches_total 0`,
				`aadpool_token_fetches_total{error_type="_OTHER"} 0`,
				`aadpool_token_waits_total 0`,
			},
		},
		{
			"the first fetch has failed",
			func() stats {
				return stats{Fetches: 1, FailedFetches: 1, LastFetchDuration: 1500 * time.Millisecond, Waits: 1}
			},
			[]string{
				`aadpool_connection_retirements_total 0`,
				`aadpool_login_refused_total 0`,
				`aadpool_token_fetch_last_duration_seconds 1.5`,
				`aadpool_token_fetches_total 0`,
				`aadpool_token_fetches_total{error_type="_OTHER"} 1`,
				`aadpool_token_waits_total 1`,
			},
		},
		{
			"a service that has run for a while",
			func() stats {
				return stats{
					TokenExpires: time.Now().Add(20 * time.Minute), Fetches: 9, FailedFetches: 2,
					LastFetchDuration: 250 * time.Millisecond, Waits: 3, Refused: 4, RetiredConns: 5,
				}
			},
			[]string{
				`aadpool_connection_retirements_total 5`,
				`aadpool_login_refused_total 4`,
				`aadpool_token_fetch_last_duration_seconds 0.25`,
				`aadpool_token_fetches_total 7`,
				`aadpool_token_fetches_total{error_type="_OTHER"} 2`,
				`aadpool_token_time_to_expiry_seconds 1200`,
				`aadpool_token_waits_total 3`,
			},
		},
		{
			"the token ended a minute ago",
			func() stats { return stats{TokenExpires: time.Now().Add(-time.Minute), Fetches: 1} },
			[]string{
				`aadpool_connection_retirements_total 0`,
				`aadpool_login_refused_total 0`,
				`aadpool_token_fetch_last_duration_seconds 0`,
				`aadpool_token_fetches_total 1`,
				`aadpool_token_fetches_total{error_type="_OTHER"} 0`,
				`aadpool_token_time_to_expiry_seconds -60`,
				`aadpool_token_waits_total 0`,
			},
		},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				target, source := newTarget(t), row.stats()
				_, err := otelaadpool.Register(&source, otelaadpool.WithMeterProvider(target.provider))
				require.NoError(t, err)
				assert.Equal(t, row.want, samples(target.scrape(t)))
			})
		})
	}
}

func TestEachCollectionReadsTheStatisticsAnew(t *testing.T) {
	target, source := newTarget(t), stats{}
	_, err := otelaadpool.Register(&source, otelaadpool.WithMeterProvider(target.provider))
	require.NoError(t, err)
	assert.Contains(t, samples(target.scrape(t)), "aadpool_token_waits_total 0")
	source.Waits = 2
	assert.Contains(t, samples(target.scrape(t)), "aadpool_token_waits_total 2")
}

func TestTwoHooksAreToldApartByAttributes(t *testing.T) {
	target := newTarget(t)
	for pool, source := range map[string]*stats{"orders": {Waits: 1}, "stock": {Waits: 2}} {
		_, err := otelaadpool.Register(source, otelaadpool.WithMeterProvider(target.provider),
			otelaadpool.WithAttributes(attribute.String("db.client.connection.pool.name", pool)))
		require.NoError(t, err)
	}
	got := samples(target.scrape(t))
	assert.Contains(t, got, `aadpool_token_waits_total{db_client_connection_pool_name="orders"} 1`)
	assert.Contains(t, got, `aadpool_token_waits_total{db_client_connection_pool_name="stock"} 2`)
	assert.Contains(t, got, `aadpool_token_fetches_total{db_client_connection_pool_name="stock",error_type="_OTHER"} 0`)
}

func TestTheCallersAttributesAreNotWrittenInto(t *testing.T) {
	attributes := make([]attribute.KeyValue, 1, 2)
	attributes[0] = attribute.String("k", "v")
	_, err := otelaadpool.Register(&stats{}, otelaadpool.WithMeterProvider(newTarget(t).provider),
		otelaadpool.WithAttributes(attributes...))
	require.NoError(t, err)
	assert.Zero(t, attributes[:2][1])
}

func TestNothingIsExportedAfterUnregister(t *testing.T) {
	target := newTarget(t)
	registration, err := otelaadpool.Register(&stats{Fetches: 1}, otelaadpool.WithMeterProvider(target.provider))
	require.NoError(t, err)
	require.NotEmpty(t, samples(target.scrape(t)))
	require.NoError(t, registration.Unregister())
	assert.Empty(t, samples(target.scrape(t)))
}

func TestRegisterErrors(t *testing.T) {
	for _, row := range []struct {
		name   string
		source otelaadpool.Source
		option otelaadpool.Option
		want   string
	}{
		{"no source", nil, otelaadpool.WithAttributes(), "otelaadpool: the source is nil: make a Hook with aadpool.NewHook"},
		{
			"a Hook whose constructor's error was ignored", (*aadpool.Hook)(nil), otelaadpool.WithAttributes(),
			"otelaadpool: the source is a nil *aadpool.Hook: check the error that its constructor returned",
		},
		{"no option", &stats{}, nil, "otelaadpool: an Option is nil"},
		{
			"no provider", &stats{}, otelaadpool.WithMeterProvider(nil),
			"otelaadpool: WithMeterProvider(nil): leave the option out for the global provider",
		},
		{
			"a provider that refuses an instrument", &stats{}, otelaadpool.WithMeterProvider(refusing{}),
			"otelaadpool: registering the metrics: refused aadpool.token.fetches",
		},
	} {
		t.Run(row.name, func(t *testing.T) {
			registration, err := otelaadpool.Register(row.source, row.option)
			require.EqualError(t, err, row.want)
			assert.Nil(t, registration)
		})
	}
}

// refusing is a meter provider, and its meter, that knows no token.
type refusing struct {
	noop.MeterProvider
}

func (refusing) Meter(string, ...metric.MeterOption) metric.Meter { return refusingMeter{} }

type refusingMeter struct{ noop.Meter }

func (m refusingMeter) Int64ObservableCounter(name string,
	options ...metric.Int64ObservableCounterOption) (metric.Int64ObservableCounter, error) {
	if name == "aadpool.token.fetches" {
		return nil, errors.New("refused " + name)
	}
	return m.Meter.Int64ObservableCounter(name, options...)
}
