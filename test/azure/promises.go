package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/aadpool/aadpool"
	"github.com/aadpool/aadpool/internal/token"
)

func ownRole(p principal) string { return p.name }

// promises are in this order: what the first make, the later ones use.
var promises = []row{
	{"an administrator, a user, logs in", func(s *suite, ctx context.Context) (string, error) {
		return s.login(ctx, administrator, ownRole)
	}},
	{"aadpool check finds nothing wrong", func(s *suite, ctx context.Context) (string, error) {
		_, err := s.aadpool(ctx, "check")
		return "status 0", err
	}},
	{"aadpool role --apply makes a service principal's role", func(s *suite, ctx context.Context) (string, error) {
		if err := s.sql(ctx, "postgres", "create database "+database); err != nil {
			return "", err
		}
		return s.makeRole(ctx, application, "--grant=readwrite", "--database="+database)
	}},
	{"aadpool role --apply again does no harm", func(s *suite, ctx context.Context) (string, error) {
		return s.makeRole(ctx, application, "--grant=readwrite", "--database="+database)
	}},
	{"a service principal logs in", func(s *suite, ctx context.Context) (string, error) {
		return s.login(ctx, application, ownRole)
	}},
	{"a member logs in as its group", func(s *suite, ctx context.Context) (string, error) {
		p, err := s.principal(ctx, application)
		if err != nil {
			return "", err
		}
		if _, err := s.aadpool(ctx, "role", p.group, "--apply"); err != nil {
			return "", err
		}
		return s.login(ctx, application, func(p principal) string { return p.group })
	}},
	{"a managed identity logs in", func(s *suite, ctx context.Context) (string, error) {
		if _, err := s.makeRole(ctx, machine); err != nil {
			return "", err
		}
		return s.login(ctx, machine, ownRole)
	}},
	{"a guest logs in", func(s *suite, ctx context.Context) (string, error) {
		if _, err := s.makeRole(ctx, guest); err != nil {
			return "", err
		}
		return s.login(ctx, guest, ownRole)
	}},
	{"the life of a user's token", func(s *suite, ctx context.Context) (string, error) {
		return s.tokenLife(ctx, administrator)
	}},
	{"the life of a service principal's token", func(s *suite, ctx context.Context) (string, error) {
		return s.tokenLife(ctx, application)
	}},
	{"the life of a managed identity's token", func(s *suite, ctx context.Context) (string, error) {
		return s.tokenLife(ctx, machine)
	}},
	{"PgBouncer takes a service principal's token", func(s *suite, ctx context.Context) (string, error) {
		return s.throughPooler(ctx, application)
	}},
	{"PgBouncer takes a user's token", func(s *suite, ctx context.Context) (string, error) {
		return s.throughPooler(ctx, administrator)
	}},
	{"the certificate, and the name of a private endpoint", (*suite).loginByPrivateName},
	{"a pool serves through rotations", (*suite).rotate},
	{"a pool serves after a failover", (*suite).failOver},
}

// makeRole makes a principal's role as the README says.
func (s *suite) makeRole(ctx context.Context, who who, args ...string) (string, error) {
	p, err := s.principal(ctx, who)
	if err != nil {
		return "", err
	}
	_, err = s.aadpool(ctx, append([]string{"role", p.name, "--apply"}, args...)...)
	return "status 0", err
}

func (s *suite) tokenLife(ctx context.Context, who who) (string, error) {
	p, err := s.principal(ctx, who)
	if err != nil {
		return "", err
	}
	text, err := s.token(ctx, p, scope)
	if err != nil {
		return "", err
	}
	life := token.ReadClaims(text).Life()
	if life <= 0 {
		return "", errors.New("the token does not say how long it lives")
	}
	return fmt.Sprintf("%s, %d bytes", life.Round(time.Minute), len(text)), nil
}

func (s *suite) throughPooler(ctx context.Context, who who) (string, error) {
	p, err := s.principal(ctx, who)
	if err != nil {
		return "", err
	}
	dsn, err := s.pooler(ctx, p.name, "postgres")
	if err != nil {
		return "", err
	}
	text, err := s.token(ctx, p, scope)
	if err != nil {
		return "", err
	}
	pool, err := aadpool.New(ctx, dsn, p.credential)
	if err != nil {
		return "", err
	}
	defer pool.Close()
	err = pool.Ping(ctx)
	if r, ok := aadpool.Explain(err); ok {
		return fmt.Sprintf("refuses %d bytes: %s %s", len(text), r.SQLState, r.Message), nil
	}
	return fmt.Sprintf("takes %d bytes", len(text)), err
}

// loginByPrivateName logs in by the server's own name while it has a private endpoint, and sees whether the certificate
// is one for the name of that: the own name is what the README says to use.
func (s *suite) loginByPrivateName(ctx context.Context) (string, error) {
	private, own, err := s.privateName(ctx)
	if err != nil {
		return "", err
	}
	if _, err := s.login(ctx, application, ownRole); err != nil {
		return "", fmt.Errorf("by the server's own name: %w", err)
	}
	p, err := s.principal(ctx, application)
	if err != nil {
		return "", err
	}
	config, err := pgxpool.ParseConfig(s.dsn(p.name, "postgres"))
	if err != nil {
		return "", err
	}
	config.ConnConfig.Host, config.ConnConfig.TLSConfig.ServerName = private, private
	config.ConnConfig.LookupFunc = func(ctx context.Context, _ string) ([]string, error) {
		return net.DefaultResolver.LookupHost(ctx, own)
	}
	pool, err := aadpool.NewWithConfig(ctx, config, p.credential)
	if err != nil {
		return "", err
	}
	defer pool.Close()
	switch err := pool.Ping(ctx); {
	case err == nil:
		return "the certificate is for the private name, too", nil
	case errors.As(err, new(x509.HostnameError)):
		return "logs in by the server's own name; the certificate is not for the private one", nil
	default:
		return "", err
	}
}

// rotate uses a pool for several lives of its token. No request may fail, and no connection outlive its token.
func (s *suite) rotate(ctx context.Context) (string, error) {
	p, life, end, err := s.rotating()
	if err != nil {
		return "", err
	}
	defer end()
	var retired atomic.Int64
	hook, err := aadpool.NewHook(p.credential, aadpool.WithObserver(aadpool.Observer{
		ConnRetired: func(context.Context, aadpool.ConnRetired) { retired.Add(1) },
	}))
	if err != nil {
		return "", err
	}
	pool, err := hook.NewPool(ctx, s.dsn(p.name, "postgres"))
	if err != nil {
		return "", err
	}
	defer pool.Close()
	served, err := load(ctx, life, func(ctx context.Context) error {
		_, err := pool.Exec(ctx, "select 1", pgx.QueryExecModeSimpleProtocol)
		return err
	})
	if err == nil && retired.Load() == 0 {
		err = errors.New("no connection was retired")
	}
	if err != nil {
		return "", fmt.Errorf("after %d requests and %d retired connections: %w", served, retired.Load(), err)
	}
	return "no request failed", nil
}

// load has some clients make requests, one every tenth of a second, until the time is over or one fails.
func load(ctx context.Context, life time.Duration, request func(context.Context) error) (served int64, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	end := time.After(life)
	var n atomic.Int64
	var clients sync.WaitGroup
	stop := make(chan struct{})
	for range 4 {
		clients.Go(func() {
			ticks := time.NewTicker(100 * time.Millisecond)
			defer ticks.Stop()
			for {
				if err := request(ctx); err != nil {
					cancel(err)
					return
				}
				n.Add(1)
				select {
				case <-stop:
					return
				case <-ctx.Done():
					return
				case <-ticks.C:
				}
			}
		})
	}
	select {
	case <-end:
	case <-ctx.Done():
	}
	close(stop)
	clients.Wait()
	return n.Load(), context.Cause(ctx)
}

// failOver makes the standby the server, and sees how long a pool does not serve.
func (s *suite) failOver(ctx context.Context) (string, error) {
	p, err := s.principal(ctx, application)
	if err != nil {
		return "", err
	}
	pool, err := aadpool.New(ctx, s.dsn(p.name, "postgres"), p.credential)
	if err != nil {
		return "", err
	}
	defer pool.Close()
	if err := pool.Ping(ctx); err != nil {
		return "", err
	}
	if err := s.failover(ctx); err != nil {
		return "", err
	}
	const patience = 10 * time.Minute
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	begun, failed := time.Now(), 0
	for {
		_, err := pool.Exec(ctx, "create temporary table if not exists writable ()")
		if err == nil {
			return fmt.Sprintf("%d requests failed in %s", failed, time.Since(begun).Round(time.Second)), nil
		}
		failed++
		select {
		case <-ctx.Done():
			return "", fmt.Errorf("the pool does not serve %s after the failover: %w", patience, err)
		case <-time.After(time.Second):
		}
	}
}

// without takes names out of a message, so that those of two places can be compared.
func without(message string, names map[string]string) string {
	for name, stands := range names {
		if name != "" {
			message = strings.ReplaceAll(message, name, stands)
		}
	}
	return message
}
