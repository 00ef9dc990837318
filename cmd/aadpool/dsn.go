package main

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/aadpool/aadpool/internal/dsn"
)

// silent is the logger of a Hook whose warnings would say again what the program says.
var silent = slog.New(slog.DiscardHandler)

// A target is a DSN as it is understood.
type target struct {
	config    *pgxpool.Config // as the DSN, the environment and the service file say
	secured   *pgxpool.Config // with the TLS policy
	secret    string          // the password that is given and not used
	namesUser bool            // the user is said, and not the operating system's for want of one
}

// parseTarget reads the DSN. The errors repeat nothing of it. policyErr is set if the DSN is well-formed but would send a
// token in the clear (it is [aadpool.ErrPlaintext] then), or needs tokens of several scopes.
func parseTarget(connString, scope string) (t target, policyErr, err error) {
	config, err := dsn.Parse(connString)
	if err != nil {
		return target{}, nil, err
	}
	t = target{config: config, secured: config.Copy(), secret: config.ConnConfig.Password, namesUser: namesUser(connString)}
	secured := &t.secured.ConnConfig.Config
	if policyErr = dsn.Secure(secured, dsn.Read(connString).TLS); policyErr == nil && scope == "" {
		_, policyErr = dsn.Scope(secured)
	}
	return t, policyErr, nil
}

// withoutPrefix is the text of an error of package aadpool, which begins with its name.
func withoutPrefix(err error) string { return strings.TrimPrefix(err.Error(), "aadpool: ") }

// namesUser reports whether the DSN, the service file or the environment say whom to log in as, and not pgx by the
// operating system's user.
func namesUser(connString string) bool {
	if newSettings(connString).get("user") != "" {
		return true
	}
	u, err := url.Parse(connString)
	return err == nil && dsn.IsURL(connString) && u.User.Username() != ""
}

// A host is one of the servers that the DSN names, and how it is reached.
type host struct {
	name string
	port uint16
	tls  *tls.Config // nil: in the clear, on this machine
}

func (h host) address() string { return net.JoinHostPort(h.name, strconv.Itoa(int(h.port))) }

// socket is the path of a Unix socket, or empty.
func (h host) socket() string {
	if network, address := pgconn.NetworkAddress(h.name, h.port); network == "unix" {
		return address
	}
	return ""
}

func (h host) String() string {
	if path := h.socket(); path != "" {
		return path
	}
	return h.address()
}

// hosts are those of a config that the TLS policy has been applied to, in the order in which pgx tries them.
func hosts(config *pgconn.Config) []host {
	all := []host{{config.Host, config.Port, config.TLSConfig}}
	for _, f := range config.Fallbacks {
		if last := all[len(all)-1]; last.name != f.Host || last.port != f.Port {
			all = append(all, host{f.Host, f.Port, f.TLSConfig})
		}
	}
	return all
}

func hostNames(all []host) string {
	names := make([]string, len(all))
	for i, h := range all {
		names[i] = h.String()
	}
	return strings.Join(names, ", ")
}

// sslMode is what a TLS config that pgx has made means, in libpq's words.
func sslMode(c *tls.Config) string {
	switch {
	case c == nil:
		return "disable"
	case !c.InsecureSkipVerify:
		return "verify-full"
	case c.VerifyPeerCertificate != nil || c.VerifyConnection != nil:
		return "verify-ca"
	}
	return "require"
}

var modeMeaning = map[string]string{
	"disable":     "no TLS, which is allowed as it does not leave this machine",
	"verify-full": "verify-full: the certificate's chain and name are verified",
	"verify-ca":   "verify-ca: the certificate's chain is verified, but not its name",
	"require":     "require: encrypted, but whoever answers gets the token; use verify-full",
}

// isRaised reports whether the TLS policy has made more of what the DSN asked for.
func (t target) isRaised() bool {
	fallsBack := func(c *pgconn.Config) bool {
		withTLS, without := c.TLSConfig != nil, c.TLSConfig == nil
		for _, f := range c.Fallbacks {
			withTLS, without = withTLS || f.TLSConfig != nil, without || f.TLSConfig == nil
		}
		return withTLS && without
	}
	return fallsBack(&t.config.ConnConfig.Config) && len(t.secured.ConnConfig.Fallbacks) < len(t.config.ConnConfig.Fallbacks)
}

// database is the one that PostgreSQL takes: the role's name where the DSN names none.
func (t target) database() string {
	if name := t.config.ConnConfig.Database; name != "" {
		return name
	}
	return t.config.ConnConfig.User
}

// describe is the DSN in one line.
func (t target) describe() string {
	return fmt.Sprintf("role %q, database %q, on %s", t.config.ConnConfig.User, t.database(), hostNames(hosts(&t.secured.ConnConfig.Config)))
}

// serverFlags names the server in az commands, by the flag that the command has for it. The command itself looks up the
// resource group.
func serverFlags(hostName, flag string) string {
	name, _, isAzure := strings.Cut(strings.ToLower(hostName), ".postgres.database.")
	if !isAzure || strings.ContainsFunc(name, func(r rune) bool { return r != '-' && (r < '0' || r > '9') && (r < 'a' || r > 'z') }) {
		return `--resource-group "$RESOURCE_GROUP" ` + flag + ` "$SERVER"`
	}
	return fmt.Sprintf(`--resource-group "$(az postgres flexible-server list --query "[?name=='%s'].resourceGroup" -o tsv)" %s %s`, name, flag, name)
}

// shellQuote makes one word of text for a POSIX shell.
func shellQuote(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }
