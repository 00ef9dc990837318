package aadpoolsql

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/aadpool/aadpool"
	"github.com/aadpool/aadpool/internal/credential"
	"github.com/aadpool/aadpool/internal/dsn"
)

// A Connector makes connections that log in with access tokens, for [database/sql.OpenDB]. They are pgx's: inside
// [database/sql.Conn.Raw] they are a *stdlib.Conn, from which comes the *pgx.Conn. Its methods may be called from
// several goroutines.
type Connector struct {
	inner  driver.Connector
	driver driver.Driver
	hook   *aadpool.Hook
}

var _ driver.Connector = (*Connector)(nil)

// An Option changes what [NewConnector] makes.
type Option func(*connectorOptions)

type connectorOptions struct {
	hook         *aadpool.Hook
	hooked       bool // by WithHook
	change       func(*pgx.ConnConfig)
	afterConnect func(context.Context, *pgx.Conn) error
}

// WithHook has connections log in with the tokens of hook: for a credential that the program makes, and for a token
// that a pgxpool shares. The parameters that are aadpool's own (credential, scope and the like) are errors then.
//
// The default is a Hook for the credential that the DSN names, which all connectors of this process share.
// It is an error if hook is nil.
func WithHook(hook *aadpool.Hook) Option {
	return func(o *connectorOptions) { o.hook, o.hooked = hook, true }
}

// WithConnConfig changes the config that the DSN has been parsed to, once, before [NewConnector] returns: for a
// tracer, a DialFunc or a TLS config. The TLS policy is applied to what comes of it.
func WithConnConfig(change func(*pgx.ConnConfig)) Option {
	return func(o *connectorOptions) { o.change = change }
}

// WithAfterConnect sets what is done with each new connection before it is used, such as registering types. The
// connection is closed if it returns an error, which is then the connect's.
func WithAfterConnect(do func(context.Context, *pgx.Conn) error) Option {
	return func(o *connectorOptions) { o.afterConnect = do }
}

// NewConnector returns a Connector for a DSN with the parameters that the package documentation lists. It asks
// nothing of the network.
//
// It returns an error if the DSN cannot be parsed, holds a secret or an unknown parameter, or would send a token in the
// clear ([aadpool.ErrPlaintext]), and if a setting of its credential is missing. No error repeats a value of the DSN,
// but the name of a certificate's file.
func NewConnector(connString string, opts ...Option) (*Connector, error) {
	return newConnector(connString, theDriver, opts)
}

func newConnector(text string, d *sqlDriver, opts []Option) (*Connector, error) {
	var o connectorOptions
	for _, opt := range opts {
		if opt == nil {
			return nil, errors.New("aadpool: an Option is nil")
		}
		opt(&o)
	}
	target, p, err := parse(text)
	if err != nil {
		return nil, fmt.Errorf("aadpool: %w", err)
	}
	if err := o.check(p); err != nil {
		return nil, fmt.Errorf("aadpool: %w", err)
	}
	config := target.Config
	if o.change != nil {
		o.change(config.ConnConfig)
	}
	scope, err := dsn.Prepare(config.ConnConfig, target, p.Scope)
	if err != nil && !(o.hooked && errors.Is(err, dsn.ErrScopes)) { // the Hook may have WithScope
		return nil, fmt.Errorf("aadpool: %w", err)
	}
	if !o.hooked {
		if o.hook, err = d.hooks.get(p, scope); err != nil {
			return nil, fmt.Errorf("aadpool: %w", err)
		}
	}
	for _, note := range target.Notes {
		slog.Warn("aadpool: " + note)
	}
	return &Connector{hook: o.hook, driver: d, inner: stdlib.GetConnector(*config.ConnConfig,
		stdlib.OptionBeforeConnect(o.hook.BeforeConnect),
		stdlib.OptionResetSession(o.hook.ResetSession),
		stdlib.OptionAfterConnect(closingOnError(o.afterConnect)))}, nil
}

func (o connectorOptions) check(p credential.Parameters) error {
	switch {
	case o.hooked && o.hook == nil:
		return errors.New("WithHook(nil): make one with aadpool.NewHook, and check its error")
	case o.hooked && p != (credential.Parameters{}):
		return errors.New("the DSN names a credential or what its token is to be, which WithHook has decided: leave " +
			strings.Join(dsn.Own, ", ") + " out of it")
	}
	return nil
}

// closingOnError is afterConnect for stdlib, which leaves a connection open that it does not return.
func closingOnError(afterConnect func(context.Context, *pgx.Conn) error) func(context.Context, *pgx.Conn) error {
	return func(ctx context.Context, conn *pgx.Conn) error {
		if afterConnect == nil {
			return nil
		}
		err := afterConnect(ctx, conn)
		if err != nil {
			_ = conn.Close(context.WithoutCancel(ctx))
		}
		return err
	}
}

// Connect makes a connection, and logs it in. database/sql calls it.
//
// It returns an error if there is no token ([aadpool.TokenError]), and pgx's where the server cannot be reached or
// refuses the login, for which see [aadpool.Explain].
func (c *Connector) Connect(ctx context.Context) (driver.Conn, error) { return c.inner.Connect(ctx) }

// Driver returns the driver that is registered as [DriverName].
func (c *Connector) Driver() driver.Driver { return c.driver }

// Hook returns what gets the tokens, for its Stats.
func (c *Connector) Hook() *aadpool.Hook { return c.hook }
