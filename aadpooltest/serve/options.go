package main

import (
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/aadpool/aadpool/aadpooltest"
)

// options are what the command line says.
type options struct {
	role          string
	kind          aadpooltest.Kind
	administrator bool
	others        []aadpooltest.Principal
	database      string
	tokenLife     time.Duration
	tokenAge      time.Duration
	latency       time.Duration
	fault         fault
	oauth         bool
	password      bool
	json          bool
	command       []string
}

// kinds are the values of -kind.
var kinds = map[string]aadpooltest.Kind{
	"service":          aadpooltest.ServicePrincipal,
	"managed-identity": aadpooltest.ManagedIdentity,
	"user":             aadpooltest.User,
}

func parseOptions(args []string, stderr io.Writer) (*options, error) {
	o := &options{kind: aadpooltest.ServicePrincipal}
	flags := flag.NewFlagSet("serve", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() {
		fmt.Fprintln(stderr, "usage: serve [flags] [-- command [argument...]]")
		flags.PrintDefaults()
	}
	flags.StringVar(&o.role, "role", "orders-api", "the `name` of the principal, and of its role")
	flags.Func("kind", "the principal's kind: service (default), managed-identity or user", func(s string) error {
		return setKind(&o.kind, s)
	})
	flags.BoolVar(&o.administrator, "administrator", false,
		"the principal is an Entra administrator; other roles exist when it has created them")
	flags.Func("register", "another principal, as `kind=name`; may be given several times", func(s string) error {
		return o.register(s)
	})
	flags.StringVar(&o.database, "database", "orders", "the `name` of a database that the role owns")
	flags.DurationVar(&o.tokenLife, "token-life", 75*time.Minute, "how long a token is valid")
	flags.DurationVar(&o.tokenAge, "token-age", 0, "how old a token is already when it is given out")
	flags.DurationVar(&o.latency, "latency", 0, "how long Entra takes to answer")
	flags.Func("fault", "what goes wrong: "+faultNames(), func(s string) (err error) {
		o.fault, err = faultNamed(s)
		return err
	})
	flags.BoolVar(&o.oauth, "oauthbearer", false, "ask for the token by SASL OAUTHBEARER, as PostgreSQL 18 can")
	flags.BoolVar(&o.password, "password", false, "set PGPASSWORD to a token, for programs that cannot ask for one")
	flags.BoolVar(&o.json, "json", false, "print JSON in place of export lines")
	if err := flags.Parse(args); err != nil {
		return nil, err
	}
	o.command = flags.Args()
	return o, nil
}

func setKind(kind *aadpooltest.Kind, name string) error {
	k, ok := kinds[name]
	if !ok {
		return fmt.Errorf("want one of service, managed-identity, user")
	}
	*kind = k
	return nil
}

func (o *options) register(s string) error {
	kind, name, ok := strings.Cut(s, "=")
	p := aadpooltest.Principal{Name: name}
	if !ok || name == "" {
		return fmt.Errorf("want kind=name, such as service=billing-api")
	}
	if err := setKind(&p.Kind, kind); err != nil {
		return err
	}
	o.others = append(o.others, p)
	return nil
}

// fault is something that goes wrong: see faults.
type fault struct {
	name, meaning string
	// set makes it happen. It is called when the role and the database are there.
	set func(*aadpooltest.Authority, *aadpooltest.Server)
}

// faults are those that people meet most.
var faults = []fault{
	{"entra-down", "Entra answers 503", func(a *aadpooltest.Authority, _ *aadpooltest.Server) {
		a.SetFailure(aadpooltest.ServerError(503))
	}},
	{"entra-throttles", "Entra answers 429, to come back later", func(a *aadpooltest.Authority, _ *aadpooltest.Server) {
		a.SetFailure(aadpooltest.Throttled(30 * time.Second))
	}},
	{"role-missing", "nobody has created the role", func(a *aadpooltest.Authority, s *aadpooltest.Server) {
		s.SetCreateRoles(false)
	}},
	{"wrong-audience", "the server wants tokens for another cloud", func(_ *aadpooltest.Authority, s *aadpooltest.Server) {
		s.SetAudience("https://ossrdbms-aad.database.usgovcloudapi.net")
	}},
	{"server-full", "the server has too many connections", func(_ *aadpooltest.Authority, s *aadpooltest.Server) {
		s.SetFault(aadpooltest.RefuseLogins("53300", "sorry, too many clients already"))
	}},
	{"server-stalls", "the server does not answer the token", func(_ *aadpooltest.Authority, s *aadpooltest.Server) {
		s.SetFault(aadpooltest.StallAt(aadpooltest.PhasePassword))
	}},
}

func faultNames() string {
	var names []string
	for _, f := range faults {
		names = append(names, f.name+" ("+f.meaning+")")
	}
	return strings.Join(names, ", ")
}

func faultNamed(name string) (fault, error) {
	i := slices.IndexFunc(faults, func(f fault) bool { return f.name == name })
	if i < 0 {
		return fault{}, fmt.Errorf("there is no such fault")
	}
	return faults[i], nil
}
