package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"os"
	"path/filepath"

	"github.com/aadpool/aadpool/aadpooltest"
)

// standIns are what serve serves, and the environment by which other programs find it.
type standIns struct {
	postgres    *aadpooltest.Postgres
	entra       *aadpooltest.Authority
	server      *aadpooltest.Server
	control     *control // nil: none
	dir         string   // of files that the environment names
	environment map[string]string
	createRoles bool // while nothing goes wrong
}

func start(ctx context.Context, o *options) (s *standIns, err error) {
	s = &standIns{environment: map[string]string{}}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.stop())
		}
	}()
	if s.dir, err = os.MkdirTemp("", "aadpooltest-serve-"); err != nil {
		return s, err
	}
	// The certificate in it may be read by programs of other users.
	if err := os.Chmod(s.dir, 0o755); err != nil {
		return s, err
	}
	if s.postgres, err = aadpooltest.StartPostgres(ctx); err != nil {
		return s, err
	}
	if err := s.listen(o); err != nil {
		return s, err
	}
	if err := s.configure(ctx, o); err != nil || o.controlPort < 0 {
		return s, err
	}
	s.control, err = startControl(s, o)
	return s, err
}

// listen starts Entra and the server.
func (s *standIns) listen(o *options) error {
	ca, err := o.certificateAuthority()
	if err != nil {
		return err
	}
	names := []aadpooltest.ListenOption{aadpooltest.WithHosts(o.hosts...), aadpooltest.WithCertificateAuthority(ca)}
	s.entra, err = aadpooltest.NewAuthority(append(names, aadpooltest.WithAddress(o.address(o.entraPort)),
		aadpooltest.WithMachineAddress(o.address(o.machinePort)))...)
	if err != nil {
		return err
	}
	s.server, err = aadpooltest.NewServer(s.entra, s.postgres,
		append(names, aadpooltest.WithAddress(o.address(o.postgresPort)))...)
	return err
}

// configure makes the stand-ins as the command line says, and the environment.
func (s *standIns) configure(ctx context.Context, o *options) error {
	s.entra.SetTokenLife(o.tokenLife)
	s.entra.SetTokenAge(o.tokenAge)
	s.entra.SetLatency(o.latency)
	if o.oauth {
		s.server.SetAuthMethod(aadpooltest.OAuthBearer)
	}
	p := s.entra.Register(aadpooltest.Principal{Kind: o.kind, Name: o.role, Administrator: o.administrator})
	for _, other := range o.others {
		s.entra.Register(other)
	}
	dsn, err := s.server.CreateDatabase(ctx, o.database, o.role)
	if err != nil {
		return err
	}
	s.createRoles = !o.administrator
	s.server.SetCreateRoles(s.createRoles)
	for _, part := range []func() (map[string]string, error){
		func() (map[string]string, error) { return s.credential(p) },
		func() (map[string]string, error) { return s.entra.TrustEnv(s.dir) },
		func() (map[string]string, error) { return s.entra.ProxyEnv(), nil },
		func() (map[string]string, error) { return databaseEnvironment(dsn) },
	} {
		variables, err := part()
		if err != nil {
			return err
		}
		maps.Copy(s.environment, variables)
	}
	if o.password {
		token, err := s.entra.Issue(o.role)
		if err != nil {
			return err
		}
		s.environment["PGPASSWORD"] = token
	}
	if o.fault.set != nil {
		o.fault.set(s.entra, s.server)
	}
	return nil
}

// credential returns the environment by which a program is the principal: as on a machine that has that kind.
func (s *standIns) credential(p aadpooltest.Principal) (map[string]string, error) {
	switch p.Kind {
	case aadpooltest.ManagedIdentity:
		return s.entra.AppServiceEnv(p), nil
	case aadpooltest.User:
		if err := s.entra.InstallAzureCLI(p, s.dir); err != nil {
			return nil, err
		}
		path := s.dir + string(filepath.ListSeparator) + os.Getenv("PATH")
		return map[string]string{"PATH": path, "AZURE_TENANT_ID": s.entra.TenantID()}, nil
	}
	return s.entra.ClientSecretEnv(p), nil
}

// databaseEnvironment returns the DSN, and what it says in libpq's variables.
func databaseEnvironment(dsn string) (map[string]string, error) {
	u, err := url.Parse(dsn)
	if err != nil {
		return nil, fmt.Errorf("parsing the server's DSN: %w", err)
	}
	host, port, err := net.SplitHostPort(u.Host)
	if err != nil {
		return nil, fmt.Errorf("parsing the server's DSN: %w", err)
	}
	return map[string]string{
		"DATABASE_URL":  dsn,
		"PGHOST":        host,
		"PGPORT":        port,
		"PGUSER":        u.User.Username(),
		"PGDATABASE":    u.Path[1:],
		"PGSSLMODE":     u.Query().Get("sslmode"),
		"PGSSLROOTCERT": u.Query().Get("sslrootcert"),
	}, nil
}

// stop ends what has been started.
func (s *standIns) stop() error {
	var errs []error
	if s.control != nil {
		errs = append(errs, s.control.stop())
	}
	if s.server != nil {
		s.server.Close()
	}
	if s.entra != nil {
		s.entra.Close()
	}
	if s.postgres != nil {
		errs = append(errs, s.postgres.Stop())
	}
	if s.dir != "" {
		errs = append(errs, os.RemoveAll(s.dir))
	}
	return errors.Join(errs...)
}
