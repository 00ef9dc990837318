package main

import (
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
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

	listen                       string
	hosts                        []string
	entraPort, machinePort       int
	postgresPort, controlPort    int // controlPort -1: no control
	caCertificateFile, caKeyFile string
}

// environmentPrefix begins the variables that set flags: AADPOOLTEST_TOKEN_LIFE is -token-life.
const environmentPrefix = "AADPOOLTEST_"

// setFromEnvironment sets flags as the environment says, before the command line is read.
func setFromEnvironment(flags *flag.FlagSet) (err error) {
	flags.VisitAll(func(f *flag.Flag) {
		name := environmentPrefix + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
		value, ok := os.LookupEnv(name)
		if !ok || err != nil {
			return
		}
		if setErr := flags.Set(f.Name, value); setErr != nil {
			err = fmt.Errorf("%s: %w", name, setErr)
		}
	})
	return err
}

// address is to listen on.
func (o *options) address(port int) string { return net.JoinHostPort(o.listen, strconv.Itoa(port)) }

// listenFlags are about where the stand-ins listen, for containers.
func (o *options) listenFlags(flags *flag.FlagSet) {
	flags.StringVar(&o.listen, "listen", "127.0.0.1", "the `address` to listen on: 0.0.0.0 in a container")
	flags.Func("host", "a `name` by which others reach this machine; may be given several times, the first is in URLs",
		func(s string) error {
			o.hosts = append(o.hosts, s)
			return nil
		})
	flags.IntVar(&o.entraPort, "entra-port", 0, "the `port` of Entra; 0: a free one")
	flags.IntVar(&o.machinePort, "machine-port", 0,
		"the `port` of managed identity endpoints and of the proxy for instance discovery")
	flags.IntVar(&o.postgresPort, "postgres-port", 0, "the `port` of the server")
	flags.IntVar(&o.controlPort, "control-port", -1, "the `port` of health, /ca.pem and faults, see control.go; -1: none")
	flags.StringVar(&o.caCertificateFile, "ca-certificate", "",
		"a `file` with the certificate authority to use (default: a new one)")
	flags.StringVar(&o.caKeyFile, "ca-key", "", "the `file` with its key")
}

// certificateAuthority is the one that is given, or a new one.
func (o *options) certificateAuthority() (*aadpooltest.CertificateAuthority, error) {
	if o.caCertificateFile == "" && o.caKeyFile == "" {
		return aadpooltest.NewCertificateAuthority()
	}
	certificate, err := os.ReadFile(o.caCertificateFile)
	if err != nil {
		return nil, err
	}
	key, err := os.ReadFile(o.caKeyFile)
	if err != nil {
		return nil, err
	}
	return aadpooltest.ParseCertificateAuthority(certificate, key)
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
	o.listenFlags(flags)
	if err := setFromEnvironment(flags); err != nil {
		fmt.Fprintln(stderr, err)
		return nil, err
	}
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
