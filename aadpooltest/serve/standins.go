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
	"strings"
	"sync"

	"github.com/aadpool/aadpool/aadpooltest"
)

// standIns are what serve serves, and the environment by which other programs find it.
type standIns struct {
	*options
	principal   aadpooltest.Principal
	postgres    *aadpooltest.Postgres
	entra       *aadpooltest.Authority
	server      *aadpooltest.Server
	control     *control // nil: none
	dir         string   // of files that the environment names
	createRoles bool     // while nothing goes wrong

	mu          sync.Mutex // guards everything below
	environment map[string]string
}

func start(ctx context.Context, o *options) (s *standIns, err error) {
	s = &standIns{options: o}
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
	return s, startControl(s, o)
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
	s.principal = s.entra.Register(aadpooltest.Principal{Kind: o.kind, Name: o.role, Administrator: o.administrator})
	for _, other := range o.others {
		s.entra.Register(other)
	}
	if _, err := s.server.CreateDatabase(ctx, o.database, o.role); err != nil {
		return err
	}
	s.createRoles = !o.administrator
	s.server.SetCreateRoles(s.createRoles)
	if err := s.makeEnvironment(); err != nil {
		return err
	}
	if o.fault.set != nil {
		o.fault.set(s.entra, s.server)
	}
	return nil
}

// makeEnvironment makes it by the addresses as they are now.
func (s *standIns) makeEnvironment() error {
	environment := map[string]string{}
	for _, part := range []func() (map[string]string, error){
		func() (map[string]string, error) { return s.credential(s.principal) },
		func() (map[string]string, error) { return s.entra.TrustEnv(s.dir) },
		func() (map[string]string, error) { return s.entra.ProxyEnv(), nil },
		s.databaseEnvironment,
		s.controlEnvironment,
	} {
		variables, err := part()
		if err != nil {
			return err
		}
		maps.Copy(environment, variables)
	}
	if s.password {
		token, err := s.entra.Issue(s.role)
		if err != nil {
			return err
		}
		environment["PGPASSWORD"] = token
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.environment = environment
	return nil
}

// variables are the environment, with the certificate in a file that the caller names, unless that is empty.
func (s *standIns) variables(certificate string) (map[string]string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	variables := maps.Clone(s.environment)
	if certificate == "" {
		return variables, nil
	}
	u, err := url.Parse(variables["DATABASE_URL"])
	if err != nil {
		return nil, err
	}
	query := u.Query()
	query.Set("sslrootcert", certificate)
	u.RawQuery = strings.ReplaceAll(query.Encode(), "+", "%20") // libpq takes + for itself
	variables["DATABASE_URL"] = u.String()
	for _, name := range []string{"SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS", "CURL_CA_BUNDLE",
		"PGSSLROOTCERT"} {
		variables[name] = certificate
	}
	return variables, nil
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
func (s *standIns) databaseEnvironment() (map[string]string, error) {
	u, err := url.Parse(s.server.DSN(s.role))
	if err != nil {
		return nil, fmt.Errorf("parsing the server's DSN: %w", err)
	}
	u.Path, u.RawPath = "/"+s.database, ""
	host, port, err := net.SplitHostPort(u.Host)
	if err != nil {
		return nil, fmt.Errorf("parsing the server's DSN: %w", err)
	}
	return map[string]string{
		"DATABASE_URL":  u.String(),
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
