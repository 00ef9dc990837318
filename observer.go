package aadpool

import (
	"context"
	"errors"
	"reflect"
	"time"
)

// An Observer is told what a [Hook] does, for traces and metrics; see [WithObserver]. Any of its functions may be nil.
// They are called on the goroutine that does the work, several at a time, and should return soon. Nothing that they are
// given holds a token.
type Observer struct {
	// FetchStart is told that the credential is about to be asked for a token. ctx has the values of the context that
	// caused the fetch. The credential gets what FetchStart adds to them, and OpenTelemetry's span, but none of the
	// others: a request's header, or what listens for its response, is none of Entra's business.
	FetchStart func(ctx context.Context, start FetchStart) context.Context

	// FetchEnd is told what came of it. ctx is what FetchStart returned.
	FetchEnd func(ctx context.Context, end FetchEnd)

	// Waited is told of a connect, or a pool being made, that had to wait for a token.
	Waited func(ctx context.Context, wait Waited)

	// LoginRefused is told of a login that a server refused. ctx is the connect's.
	LoginRefused func(ctx context.Context, refused LoginRefused)

	// ConnRetired is told of a connection that gives up its place to a newer one: its token is about to expire, or the
	// pool's MaxConnLifetime is. ctx is that of the acquire that met the connection; if it was replaced in the background,
	// it has no values.
	ConnRetired func(ctx context.Context, retired ConnRetired)
}

// A FetchCause is what a token is fetched for. Its text is for logs and metrics.
type FetchCause string

// The causes of a fetch.
const (
	FetchCausePool    FetchCause = "pool"    // a pool is being made, or its config
	FetchCauseConnect FetchCause = "connect" // a connection is being opened, and there is no token that serves
	FetchCauseRenewal FetchCause = "renewal" // the token at hand is due, or there is none; no connect waits for the fetch
)

// FetchStart is what [Observer].FetchStart is told.
type FetchStart struct {
	Scope string
	Cause FetchCause
}

// FetchEnd is what [Observer].FetchEnd is told.
type FetchEnd struct {
	Scope    string
	Cause    FetchCause
	Duration time.Duration
	Expires  time.Time // of the new token; zero if there is none
	Err      error     // a [TokenError] if there is none
}

// Waited is what [Observer].Waited is told.
type Waited struct {
	Scope    string
	Duration time.Duration
	Err      error // nil if it got a token
}

// LoginRefused is what [Observer].LoginRefused is told.
type LoginRefused struct {
	Server string // host and port
	Role   string
	Refusal
}

// ConnRetired is what [Observer].ConnRetired is told.
type ConnRetired struct {
	TokenExpires time.Time // of the token that the connection logged in with
}

// WithObserver sets functions that are told of fetches, waits, refused logins and retired connections, beside the log
// and [Stats]. An acquire costs no more with it while nothing of the kind happens.
//
// The default is none. It is an error if o has no function.
func WithObserver(o Observer) Option {
	return func(opts *options) error {
		if o.FetchStart == nil && o.FetchEnd == nil && o.Waited == nil && o.LoginRefused == nil && o.ConnRetired == nil {
			return errors.New("WithObserver: the Observer has no function")
		}
		opts.observer = o
		return nil
	}
}

// A requestContext is the context of a request to the credential: all that the Observer has added to the values of the
// caller, and of those the span alone.
type requestContext struct {
	context.Context // what the Observer returned
	caller          context.Context
}

// Value makes it a context.Context.
func (c requestContext) Value(key any) any {
	value := c.Context.Value(key)
	if value == nil || reflect.TypeOf(key).PkgPath() == "go.opentelemetry.io/otel/trace" {
		return value
	}
	if of := c.caller.Value(key); of != nil && isSame(value, of) {
		return nil
	}
	return value
}

func isSame(a, b any) bool {
	x, y := reflect.ValueOf(a), reflect.ValueOf(b)
	if x.Type() != y.Type() {
		return false
	}
	switch x.Kind() {
	case reflect.Map, reflect.Slice, reflect.Func:
		return x.UnsafePointer() == y.UnsafePointer()
	}
	return !x.Comparable() || !y.Comparable() || a == b
}

func (o *Observer) fetchStart(ctx context.Context, start FetchStart) context.Context {
	if o.FetchStart == nil {
		return ctx
	}
	return o.FetchStart(ctx, start)
}

func (o *Observer) fetchEnd(ctx context.Context, end FetchEnd) {
	if o.FetchEnd != nil {
		o.FetchEnd(ctx, end)
	}
}

func (o *Observer) waited(ctx context.Context, wait Waited) {
	if o.Waited != nil {
		o.Waited(ctx, wait)
	}
}

func (o *Observer) loginRefused(ctx context.Context, refused LoginRefused) {
	if o.LoginRefused != nil {
		o.LoginRefused(ctx, refused)
	}
}

func (o *Observer) connRetired(ctx context.Context, retired ConnRetired) {
	if o.ConnRetired != nil {
		o.ConnRetired(ctx, retired)
	}
}
