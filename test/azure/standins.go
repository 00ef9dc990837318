package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/jackc/pgx/v5"

	"github.com/aadpool/aadpool/aadpooltest"
)

// standIns are those of aadpooltest, with a PostgreSQL of their own.
type standIns struct {
	authority *aadpooltest.Authority
	server    *aadpooltest.Server
	postgres  *aadpooltest.Postgres
	dir, path string // where az is, and PATH before
	made      map[who]principal
	app       aadpooltest.Principal
}

const standInsGroup = "orders-team"

// usualLife is one that Entra gives tokens: 60 to 90 minutes.
const usualLife = 75 * time.Minute

func newStandIns(ctx context.Context, _ options, _ io.Writer) (place, error) {
	pg, err := aadpooltest.StartPostgres(ctx)
	if err != nil {
		return nil, err
	}
	s := &standIns{postgres: pg, path: os.Getenv("PATH"), made: map[who]principal{}}
	if s.authority, err = aadpooltest.NewAuthority(); err != nil {
		return s, err
	}
	if s.server, err = aadpooltest.NewServer(s.authority, pg); err != nil {
		return s, err
	}
	// Before the administrator, whose role is one of the server's own.
	if s.dir, err = os.MkdirTemp("", "aadpool-az-"); err != nil {
		return s, err
	}
	for who, p := range map[who]aadpooltest.Principal{
		administrator: {Kind: aadpooltest.User, Name: "ada@contoso.example", Administrator: true},
		application:   {Kind: aadpooltest.ServicePrincipal, Name: "orders-api", Groups: []string{standInsGroup}},
		stranger:      {Kind: aadpooltest.ServicePrincipal, Name: "stranger"},
		machine:       {Kind: aadpooltest.ManagedIdentity, Name: "id-orders"},
		guest:         {Kind: aadpooltest.User, Name: "grace_fabrikam.example#EXT#@contoso.example"},
	} {
		if err := s.register(who, p); err != nil {
			return s, err
		}
	}
	s.server.SetCreateRoles(false)
	return s, os.Setenv("PATH", s.dir+string(os.PathListSeparator)+s.path)
}

func (s *standIns) register(who who, p aadpooltest.Principal) error {
	p = s.authority.Register(p)
	if who == application {
		s.app = p
	}
	credential, err := s.credential(who, p)
	s.made[who] = principal{name: p.Name, objectID: p.ObjectID, group: standInsGroup, credential: credential}
	return err
}

func (s *standIns) credential(who who, p aadpooltest.Principal) (azcore.TokenCredential, error) {
	client := s.authority.ClientOptions()
	switch who {
	case administrator:
		if err := s.authority.InstallAzureCLI(p, s.dir); err != nil {
			return nil, err
		}
		return azidentity.NewAzureCLICredential(nil)
	case machine:
		return azidentity.NewManagedIdentityCredential(&azidentity.ManagedIdentityCredentialOptions{
			ClientOptions: client, ID: azidentity.ClientID(p.ClientID),
		})
	case guest:
		return issued{s.authority, p.Name}, nil // as az would, which has one user at a time
	}
	return azidentity.NewClientSecretCredential(s.authority.TenantID(), p.ClientID, p.Secret,
		&azidentity.ClientSecretCredentialOptions{ClientOptions: client})
}

// issued is a user's credential without a program that the user has logged in to.
type issued struct {
	authority *aadpooltest.Authority
	name      string
}

func (i issued) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	token, err := i.authority.Issue(i.name)
	return azcore.AccessToken{Token: token, ExpiresOn: time.Now().Add(time.Hour)}, err
}

func (s *standIns) about(context.Context) string {
	return "aadpooltest, " + runtime.Version()
}

func (s *standIns) dsn(role, database string) string {
	return inDatabase(s.server.DSN(role), database)
}

func (s *standIns) principal(_ context.Context, who who) (principal, error) { return s.made[who], nil }

func (s *standIns) remake(_ context.Context, p principal) (principal, error) {
	err := s.register(stranger, aadpooltest.Principal{Kind: aadpooltest.ServicePrincipal, Name: p.name})
	return s.made[stranger], err
}

func (s *standIns) expired(_ context.Context, p principal) (string, error) {
	issuedAt := time.Now().Add(-2 * usualLife)
	return s.authority.Issue(p.name, aadpooltest.WithIssuedAt(issuedAt), aadpooltest.WithLife(usualLife))
}

func (s *standIns) failover(context.Context) error {
	return notHere("only on Azure; make test-long has a standby of its own promoted")
}

func (s *standIns) pooler(context.Context, string, string) (string, error) {
	return "", notHere("only on Azure; make matrix-pgbouncer runs real ones")
}

// privateName is made up: no DNS is asked for it.
func (s *standIns) privateName(context.Context) (private, own string, err error) {
	config, err := pgx.ParseConfig(s.server.DSN("postgres"))
	if err != nil {
		return "", "", err
	}
	return "orders.privatelink.postgres.database.azure.com", config.Host, nil
}

// rotating makes tokens short while the pool runs, for three of their lives. The credential is another, since
// azidentity keeps a long token.
func (s *standIns) rotating() (principal, time.Duration, func(), error) {
	const life = 6 * time.Second
	p := s.made[application]
	var err error
	if p.credential, err = s.credential(application, s.app); err != nil {
		return p, 0, nil, err
	}
	s.authority.SetTokenLife(life)
	return p, 3 * life, func() { s.authority.SetTokenLife(usualLife) }, nil
}

func (s *standIns) environment() []string {
	env := []string{"AADPOOL_DISABLE_INSTANCE_DISCOVERY=true"}
	trust, err := s.authority.TrustEnv(s.dir)
	if err != nil {
		return env
	}
	for name, value := range trust {
		env = append(env, name+"="+value)
	}
	return env
}

func (s *standIns) delete(context.Context) error {
	if s.server != nil {
		s.server.Close()
	}
	if s.authority != nil {
		s.authority.Close()
	}
	err := errors.Join(os.Setenv("PATH", s.path), s.postgres.Stop())
	if s.dir != "" {
		err = errors.Join(err, os.RemoveAll(s.dir))
	}
	if err != nil {
		return fmt.Errorf("ending the stand-ins: %w", err)
	}
	return nil
}
