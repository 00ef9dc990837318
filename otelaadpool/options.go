package otelaadpool

import (
	"errors"
	"fmt"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"
)

// An Option changes what [Register] and [NewObserver] export, and where to.
type Option func(*options) error

type options struct {
	meters     metric.MeterProvider
	tracers    trace.TracerProvider
	attributes []attribute.KeyValue
}

func newOptions(opts []Option) (options, error) {
	o := options{meters: otel.GetMeterProvider(), tracers: otel.GetTracerProvider()}
	for _, opt := range opts {
		if opt == nil {
			return o, errors.New("otelaadpool: an Option is nil")
		}
		if err := opt(&o); err != nil {
			return o, fmt.Errorf("otelaadpool: %w", err)
		}
	}
	return o, nil
}

// with returns the attributes that everything has and these, in a slice of its own.
func (o options) with(more ...attribute.KeyValue) []attribute.KeyValue {
	return append(o.attributes[:len(o.attributes):len(o.attributes)], more...)
}

// WithMeterProvider sets where the metrics go. It is an error if provider is nil.
//
// The default is the global one, [go.opentelemetry.io/otel.GetMeterProvider], at the time of the call of [Register] or
// [NewObserver].
func WithMeterProvider(provider metric.MeterProvider) Option {
	return func(o *options) error {
		if provider == nil {
			return errors.New("WithMeterProvider(nil): leave the option out for the global provider")
		}
		o.meters = provider
		return nil
	}
}

// WithTracerProvider sets where the spans of [NewObserver] go. [Register] makes none. It is an error if provider is
// nil.
//
// The default is the global one, [go.opentelemetry.io/otel.GetTracerProvider], at the time of the call of
// [NewObserver].
func WithTracerProvider(provider trace.TracerProvider) Option {
	return func(o *options) error {
		if provider == nil {
			return errors.New("WithTracerProvider(nil): leave the option out for the global provider")
		}
		o.tracers = provider
		return nil
	}
}

// WithAttributes puts attributes on every metric and span, to tell several Hooks apart:
//
//	otelaadpool.WithAttributes(attribute.String("db.client.connection.pool.name", "orders"))
//
// The default is none.
func WithAttributes(attributes ...attribute.KeyValue) Option {
	return func(o *options) error {
		o.attributes = append(o.attributes, attributes...)
		return nil
	}
}
