package main

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"sync"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/aadpool/aadpool"
	"github.com/aadpool/aadpool/examples/tokenservice/internal/connections"
	"github.com/aadpool/aadpool/examples/tokenservice/internal/service"
	"github.com/aadpool/aadpool/examples/tokenservice/internal/store"
)

type serve struct {
	Listen     string   `default:":8443" env:"TOKENSERVICE_LISTEN" help:"Address to listen on."`
	PublicURL  string   `required:"" name:"public-url" env:"TOKENSERVICE_PUBLIC_URL" help:"https://host[:port], as clients know the service."`
	Tenant     string   `default:"tokenservice" env:"TOKENSERVICE_TENANT" help:"First segment of the paths: what azidentity is given as the tenant."`
	Audience   []string `default:"api://tokenservice" env:"TOKENSERVICE_AUDIENCE" help:"Whom tokens may be for, such as api://orders. The first is the service's own API."`
	TLSCert    string   `name:"tls-cert" env:"TOKENSERVICE_TLS_CERT" help:"Certificate chain, PEM. Without one a certificate is made at start-up."`
	TLSKey     string   `name:"tls-key" env:"TOKENSERVICE_TLS_KEY" help:"Its private key, PEM."`
	TLSCertOut string   `name:"tls-cert-out" type:"path" help:"Where to write the certificate that was made at start-up, for clients to trust."`
	MaxConns   int      `name:"max-connections" default:"1024" env:"TOKENSERVICE_MAX_CONNECTIONS" help:"Of all clients, at once."`
	PerAddress int      `name:"max-connections-per-address" default:"128" env:"TOKENSERVICE_MAX_CONNECTIONS_PER_ADDRESS" help:"Of one address, at once."`
	Migrate    bool     `env:"TOKENSERVICE_MIGRATE" help:"For trying out: bring the schema up to date first, and serve as its owner."`
}

// Run is the command.
func (c *serve) Run(ctx context.Context, all *commands, connect connect, log *slog.Logger) error {
	config, err := c.config()
	if err != nil {
		return err
	}
	certificate, err := c.certificate(log)
	if err != nil {
		return err
	}
	pool, err := all.Database.open(ctx, connect, log)
	if err != nil {
		return err
	}
	defer pool.Close()
	if err := c.prepare(ctx, pool, log); err != nil {
		return err
	}
	replica, err := service.New(ctx, pool, config, log)
	if err != nil {
		return err
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", c.Listen)
	if err != nil {
		return fmt.Errorf("listening: %w", err)
	}
	if hook, ok := aadpool.HookOf(pool); ok { // a login after a quiet night waits for no token of the database's
		ctx, cancel := context.WithCancel(ctx)
		var fresh sync.WaitGroup
		fresh.Go(func() { _ = hook.KeepFresh(ctx) })
		defer fresh.Wait()
		defer cancel()
	}
	log.Info("serving", slog.String("address", listener.Addr().String()), slog.String("issuer", config.OAuth.Issuer()))
	return replica.Serve(ctx, listener, certificate)
}

// prepare brings the schema up to date, if that is asked for, and refuses to serve as a role that could change the
// audit log, unless it is the one that was to migrate.
func (c *serve) prepare(ctx context.Context, pool *pgxpool.Pool, log *slog.Logger) error {
	if c.Migrate {
		if _, err := store.Migrate(ctx, pool); err != nil {
			return err
		}
	}
	owns, role, err := store.New(pool).OwnsAuditLog(ctx)
	switch {
	case err != nil:
		return fmt.Errorf("%w (if the table is missing: tokenservice migrate)", err)
	case owns && !c.Migrate:
		return fmt.Errorf("the database role %q owns the audit log, and so could change its records: serve as another role, "+
			"to which the owner gives what it needs by tokenservice migrate --grant-to ROLE; "+
			"to try the service out with one role, use serve --migrate (TOKENSERVICE_MIGRATE=true)", role)
	case owns:
		log.Warn("for trying out only: the service's database role owns the audit log, and so could change its records",
			slog.String("role", role))
	}
	return nil
}

func (c *serve) config() (service.Config, error) {
	config := service.DefaultConfig()
	config.OAuth.PublicURL, config.OAuth.Tenant, config.OAuth.Audiences = c.PublicURL, c.Tenant, c.Audience
	config.Connections = connections.Limits{Total: c.MaxConns, PerAddress: c.PerAddress}
	var err error
	config.Sealer, err = sealer()
	return config, err
}

func (c *serve) certificate(log *slog.Logger) (tls.Certificate, error) {
	if c.TLSCert != "" || c.TLSKey != "" {
		certificate, err := tls.LoadX509KeyPair(c.TLSCert, c.TLSKey)
		if err != nil {
			return tls.Certificate{}, fmt.Errorf("reading the certificate (--tls-cert and --tls-key): %w", err)
		}
		return certificate, nil
	}
	public, err := url.Parse(c.PublicURL)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("the public URL %q is no URL", c.PublicURL)
	}
	certificate, pem, err := service.SelfSigned(public.Hostname())
	if err != nil {
		return tls.Certificate{}, err
	}
	fingerprint := sha256.Sum256(certificate.Certificate[0])
	log.Warn("no certificate was given, so one was made", slog.String("sha256", hex.EncodeToString(fingerprint[:])))
	if c.TLSCertOut != "" {
		if err := os.WriteFile(c.TLSCertOut, pem, 0o644); err != nil {
			return tls.Certificate{}, fmt.Errorf("writing the certificate: %w", err)
		}
	}
	return certificate, nil
}
