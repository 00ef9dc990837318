package proxycommand

import (
	"fmt"
	"io"
	"os"
	"reflect"
	"slices"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/aadpool/aadpool/cmd/aadpool/internal/exit"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/proxy"
	"github.com/aadpool/aadpool/internal/lazyregexp"
)

// upstreamName is what a server may be called: it is a directory, and a label of metrics.
var upstreamName = lazyregexp.New(`^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,62}$`)

// namedDSN is an argument NAME=DSN. A DSN of keywords begins with one, whose value is hardly a DSN again.
var namedDSN = lazyregexp.New(`^([^=\s:]*)=((?:postgres|postgresql)://.*|[a-z_]+\s*=.*)$`)

// settings are what the command line, the environment and the file say together: of the proxy, and of each server.
func (cmd *Command) settings() (*Command, []upstreamSettings, error) {
	if cmd.Config != "" {
		return cmd.readFile()
	}
	settings, err := cmd.ofArguments()
	if err != nil {
		return nil, nil, err
	}
	return cmd, settings, placeSettings(settings, nil)
}

// ofArguments are those of a DSN, or of NAME=DSN for each of several.
func (cmd *Command) ofArguments() (settings []upstreamSettings, err error) {
	for _, argument := range cmd.DSN {
		s := upstreamSettings{dsn: argument, flags: cmd.upstreamFlags}
		if found := namedDSN.FindStringSubmatch(argument); found != nil {
			s.name, s.dsn = found[1], found[2]
			if !upstreamName.MatchString(s.name) {
				return nil, exit.Usage("before the = of NAME=DSN is the server's name: letters, digits, and _.- between them")
			}
		}
		settings = append(settings, s)
	}
	isNameless := func(s upstreamSettings) bool { return s.name == "" }
	switch {
	case len(settings) == 0:
		return []upstreamSettings{{flags: cmd.upstreamFlags}}, nil // by PGHOST and so on
	case len(settings) > 1 && slices.ContainsFunc(settings, isNameless):
		return nil, exit.Usage("there is an argument too many: quote a DSN that has spaces or an & in it, write " +
			"NAME=DSN for each of several servers, and put the proxy's command after --; try --help")
	}
	return settings, nil
}

// placeSettings has each of several servers listen in its own place. ownPlace names those that say themselves where.
func placeSettings(settings []upstreamSettings, ownPlace map[string]bool) error {
	seen := map[string]bool{}
	tcp := 0
	for i := range settings {
		s := &settings[i]
		if seen[s.name] {
			return exit.Usage("there are two servers with the name " + s.name)
		}
		seen[s.name] = true
		if (&madeUpstream{upstreamSettings: *s}).isTCPByDefault() {
			s.at = tcp
			tcp++
		}
		if s.name == "" || ownPlace[s.name] {
			continue
		}
		if len(s.flags.Listen) > 0 && len(settings) > 1 {
			return exit.Usage("--listen is for one server: of several each has a listen of its own in --config, or --tcp, " +
				"which counts up from 127.0.0.1:5432")
		}
		s.inSubdir = s.flags.SocketDir != ""
	}
	return nil
}

// flag is one of the command's, or nil.
func (cmd *Command) flag(name string) *kong.Flag {
	at := slices.IndexFunc(cmd.flags, func(f *kong.Flag) bool { return f.Name == name })
	if at < 0 {
		return nil
	}
	return cmd.flags[at]
}

// isSaid reports whether the command line, the environment, or the file has the flag.
func (cmd *Command) isSaid(name string) bool {
	return cmd.given[name] || slices.ContainsFunc(cmd.flag(name).Envs, func(env string) bool {
		_, ok := os.LookupEnv(env)
		return ok
	})
}

// changedFor are the keys about the whole proxy that another one has otherwise.
func (cmd *Command) changedFor(other *Command) (names []string) {
	for _, row := range proxyKeys() {
		if !row.ofUpstream && row.Name != "log-level" &&
			!reflect.DeepEqual(cmd.flag(row.Name).Target.Interface(), other.flag(row.Name).Target.Interface()) {
			names = append(names, row.Name)
		}
	}
	return names
}

// describe is --check-config: it makes and opens nothing, and reads no secret.
func (u *upstreams) describe(w io.Writer, settings []upstreamSettings) error {
	for _, s := range settings {
		t, err := s.target(false)
		if err != nil {
			return s.of(err)
		}
		m := &madeUpstream{upstreamSettings: s, target: t, upstream: newProxyUpstream(s, t)}
		m.chooseListener(len(u.in.Passthrough) > 0)
		for _, address := range m.upstream.Listen {
			knowsClients := s.flags.PasswordFile != "" || s.flags.ClientCA != "" || m.isTCPByDefault()
			if err := proxy.CheckListen(address, s.flags.TLSCert != "", knowsClients); err != nil {
				return s.of(exit.Usage(err.Error()))
			}
		}
		places := m.upstream.Listen
		if m.upstream.SocketDir != "" {
			places = append([]string{m.upstream.SocketDir}, places...)
		}
		if _, err := userIDs(s.flags.AllowUser); err != nil {
			return s.of(err)
		}
		name := s.name
		if name != "" {
			name += ": "
		}
		fmt.Fprintf(w, "%s%s, with the credential %s, listening on %s\n",
			name, t.Describe(), s.flags.Credential, strings.Join(places, ", "))
	}
	return nil
}
