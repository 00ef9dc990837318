package otelaadpool

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/aadpool/aadpool"
	"github.com/aadpool/aadpool/internal/entra"
)

// scope is the name of the instrumentation scope:
// https://opentelemetry.io/docs/specs/otel/common/instrumentation-scope/.
const scope = "github.com/aadpool/aadpool/otelaadpool"

// failed marks fetches that brought no valid token. Stats does not say of what kind their errors were, and _OTHER is
// what stands for that: https://opentelemetry.io/docs/specs/semconv/registry/attributes/error/.
var failed = errorType.String(entra.OtherError)

// A Source has statistics to export. An [aadpool.Hook] is one.
type Source interface {
	Stats() aadpool.Stats
}

// Register exports the statistics of source from now on, until the registration's Unregister is called. To export those
// of several Hooks, tell them apart with [WithAttributes]. The Hook of a pool is what [aadpool.HookOf] returns.
//
// It is an error if source is nil, if an option is wrong, or if the meter provider refuses an instrument.
func Register(source Source, opts ...Option) (metric.Registration, error) {
	if source == nil {
		return nil, errors.New("otelaadpool: the source is nil: make a Hook with aadpool.NewHook")
	}
	if v := reflect.ValueOf(source); v.Kind() == reflect.Pointer && v.IsNil() {
		return nil, fmt.Errorf("otelaadpool: the source is a nil %T: check the error that its constructor returned", source)
	}
	o, err := newOptions(opts)
	if err != nil {
		return nil, err
	}
	registration, err := register(o.meters.Meter(scope), source, o)
	if err != nil {
		return nil, fmt.Errorf("otelaadpool: registering the metrics: %w", err)
	}
	return registration, nil
}

func register(meter metric.Meter, source Source, opts options) (metric.Registration, error) {
	i, err := newInstruments(meter)
	if err != nil {
		return nil, err
	}
	all := metric.WithAttributeSet(attribute.NewSet(opts.with()...))
	failures := metric.WithAttributeSet(attribute.NewSet(opts.with(failed)...))
	observe := func(_ context.Context, o metric.Observer) error {
		i.observe(o, source.Stats(), all, failures)
		return nil
	}
	return meter.RegisterCallback(observe, i.timeToExpiry, i.fetches, i.lastDuration, i.waits, i.refused, i.retirements)
}

type instruments struct {
	timeToExpiry, lastDuration           metric.Float64ObservableGauge
	fetches, waits, refused, retirements metric.Int64ObservableCounter
}

func newInstruments(meter metric.Meter) (instruments, error) {
	var i instruments
	var errs [6]error
	i.timeToExpiry, errs[0] = meter.Float64ObservableGauge("aadpool.token.time_to_expiry", metric.WithUnit("s"),
		metric.WithDescription("Life left of the access token at hand; negative once it has ended."))
	i.fetches, errs[1] = meter.Int64ObservableCounter("aadpool.token.fetches", metric.WithUnit("{fetch}"),
		metric.WithDescription("Requests to the credential that have ended; error.type if they brought no valid token."))
	i.lastDuration, errs[2] = meter.Float64ObservableGauge("aadpool.token.fetch.last_duration", metric.WithUnit("s"),
		metric.WithDescription("How long the last request to the credential took."))
	i.waits, errs[3] = meter.Int64ObservableCounter("aadpool.token.waits", metric.WithUnit("{wait}"),
		metric.WithDescription("Connects that had to wait for an access token."))
	i.refused, errs[4] = meter.Int64ObservableCounter("aadpool.login.refused", metric.WithUnit("{login}"),
		metric.WithDescription("Logins that the database server refused."))
	i.retirements, errs[5] = meter.Int64ObservableCounter("aadpool.connection.retirements",
		metric.WithUnit("{retirement}"),
		metric.WithDescription("Pooled connections closed because their access token was about to end."))
	return i, errors.Join(errs[:]...)
}

func (i instruments) observe(o metric.Observer, s aadpool.Stats, all, failures metric.ObserveOption) {
	if !s.TokenExpires.IsZero() {
		o.ObserveFloat64(i.timeToExpiry, time.Until(s.TokenExpires).Seconds(), all)
	}
	o.ObserveInt64(i.fetches, s.Fetches-s.FailedFetches, all)
	o.ObserveInt64(i.fetches, s.FailedFetches, failures)
	if s.Fetches > 0 {
		o.ObserveFloat64(i.lastDuration, s.LastFetchDuration.Seconds(), all)
	}
	o.ObserveInt64(i.waits, s.Waits, all)
	o.ObserveInt64(i.refused, s.Refused, all)
	o.ObserveInt64(i.retirements, s.RetiredConns, all)
}
