package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/aadpool/aadpool"
)

// silent is the logger of a Hook whose warnings would say again what the program says.
var silent = slog.New(slog.DiscardHandler)

var errNotAsked = errors.New("no token is wanted yet")

// noCredential never has a token, so that aadpool.New comes to its end after reading the DSN, and makes no pool.
type noCredential struct{}

func (noCredential) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken{}, errNotAsked
}

// placeholder is a token for a config that nothing connects with.
var placeholder = azcore.AccessToken{Token: "placeholder", ExpiresOn: time.Now().Add(24 * time.Hour)}

// A target is a DSN as it is understood.
type target struct {
	config  *pgxpool.Config // as the DSN, the environment and the service file say
	secured *pgxpool.Config // with the TLS policy; its token is the placeholder
	secret  string          // the password that is given and not used
}

// parseTarget reads the DSN. The errors repeat nothing of it. policyErr is set if the DSN is well-formed but would send a
// token in the clear, or needs tokens of several scopes.
func parseTarget(ctx context.Context, dsn, scope string) (t target, policyErr, err error) {
	options := []aadpool.Option{aadpool.WithLogger(silent)}
	if scope != "" {
		options = append(options, aadpool.WithScope(scope))
	}
	hook, err := aadpool.NewHook(tokenCredential(placeholder), options...)
	if err != nil {
		return target{}, nil, err
	}
	// pgx's own error quotes the DSN.
	_, newErr := aadpool.New(ctx, dsn, noCredential{}, options...)
	config, parseErr := pgxpool.ParseConfig(dsn)
	if parseErr != nil {
		return target{}, nil, newErr
	}
	t = target{config: config, secured: config.Copy(), secret: config.ConnConfig.Password}
	policyErr = hook.Configure(ctx, t.secured)
	switch {
	case errors.Is(newErr, errNotAsked):
		return t, nil, nil
	case policyErr != nil && policyErr.Error() == newErr.Error():
		return t, policyErr, nil
	}
	return target{}, nil, newErr
}

// namesUser reports whether the DSN, the service file or the environment say whom to log in as, and not pgx by the
// operating system's user.
func namesUser(dsn string) bool {
	if newSettings(dsn).get("user") != "" {
		return true
	}
	u, err := url.Parse(dsn)
	return err == nil && isURL(dsn) && u.User.Username() != ""
}

func isURL(dsn string) bool {
	return strings.HasPrefix(dsn, "postgres://") || strings.HasPrefix(dsn, "postgresql://")
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

// isRaised says whether the TLS policy has made more of what the DSN asked for.
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

// describe is the DSN in one line.
func (t target) describe() string {
	c := t.config.ConnConfig
	database := c.Database
	if database == "" {
		database = c.User // PostgreSQL's default
	}
	return fmt.Sprintf("role %q, database %q, on %s", c.User, database, hostNames(hosts(&t.secured.ConnConfig.Config)))
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
