package otelaadpool

import (
	"errors"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// An Option changes how [Register] exports.
type Option func(*options) error

type options struct {
	provider   metric.MeterProvider
	attributes []attribute.KeyValue
}

// WithMeterProvider sets where the metrics go. It is an error if provider is nil.
//
// The default is the global one, [go.opentelemetry.io/otel.GetMeterProvider], at the time of the call of [Register].
func WithMeterProvider(provider metric.MeterProvider) Option {
	return func(o *options) error {
		if provider == nil {
			return errors.New("WithMeterProvider(nil): leave the option out for the global provider")
		}
		o.provider = provider
		return nil
	}
}

// WithAttributes puts attributes on every metric, to tell several Hooks apart:
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
