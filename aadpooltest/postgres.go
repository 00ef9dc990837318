package aadpooltest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// DatabaseEnv is the environment variable that names a PostgreSQL server to use instead of starting one: the DSN of a
// superuser.
const DatabaseEnv = "AADPOOL_TEST_DATABASE"

// startTimeout bounds initdb and the start of the server, which together take about two seconds.
const startTimeout = time.Minute

// serverCertFile is the server's certificate, in its directory.
const serverCertFile = "server.crt"

// Postgres is a real PostgreSQL server for tests: one that [StartPostgres] started, or the one that [DatabaseEnv]
// names. Its methods may be called from several goroutines at once.
type Postgres struct {
	dsn    string
	config *pgconn.Config // what dsn was parsed to, once: later changes to PG* variables do not matter

	// What follows is empty for a server that somebody else started.
	dir   string
	port  int
	relay *relayTLS // nil where the system has no relayAddress
	stop  func() error
}

// StartPostgres starts a PostgreSQL server in a temporary directory and returns when it accepts connections. ctx
// bounds the start only, which gives up after a minute in any case; the server runs until [Postgres.Stop], or until
// this process ends, even by SIGKILL.
//
// The programs initdb and postgres are looked for on PATH, in the directory that pg_config names, and where Linux
// packages, Homebrew and Postgres.app put them, newest version first; the error says what to install when there are
// none. Because PostgreSQL refuses to run as root, a root process starts it as the user postgres, or else nobody. Of
// this process's environment it gets PATH, LD_LIBRARY_PATH, DYLD_LIBRARY_PATH and TZ, and nothing else.
//
// It is tuned for tests and not for keeping data: nothing is flushed to disk. The superuser gets in through a Unix
// socket that only the owner can reach. Over TCP, on 127.0.0.1, it takes TLS connections only, and asks them for a
// password in clear text ([Postgres.TLSDSN]), or those of a [Server] for a certificate that this process alone can
// make. It allows 200 connections.
//
// With [DatabaseEnv] set, nothing is started. That server must let the DSN's user in as a superuser. The roles that
// logins create there stay.
func StartPostgres(ctx context.Context) (*Postgres, error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()

	if dsn := os.Getenv(DatabaseEnv); dsn != "" {
		return usePostgres(ctx, dsn)
	}
	return startPostgres(ctx)
}

// usePostgres checks that the server behind dsn can be used.
func usePostgres(ctx context.Context, dsn string) (*Postgres, error) {
	config, err := pgconn.ParseConfig(dsn)
	if err != nil {
		// Not wrapped: it quotes the DSN, and removes the password from it by best effort only.
		return nil, fmt.Errorf("aadpooltest: %s is not a valid PostgreSQL DSN", DatabaseEnv)
	}
	p := &Postgres{dsn: dsn, config: config}
	conn, err := pgconn.ConnectConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("aadpooltest: connecting to the server that %s names: %w", DatabaseEnv, err)
	}
	defer conn.Close(ctx)
	if conn.ParameterStatus("is_superuser") != "on" {
		return nil, fmt.Errorf("aadpooltest: the user %q of %s is not a superuser: logins need one, to create roles and to "+
			"become them", config.User, DatabaseEnv)
	}
	return p, nil
}

// DSN returns the connection string of a superuser: through the Unix socket, or what [DatabaseEnv] says.
func (p *Postgres) DSN() string { return p.dsn }

// TLSDSN returns a connection string by which role logs in to the server itself, with nothing of this package between:
// over TCP, with TLS that the server terminates and that the client verifies in full, and with a password in clear text
// inside it (pg_hba.conf: hostssl … password). No password is in the string; see [Postgres.SetPassword]. It fails for a
// server that StartPostgres did not start.
func (p *Postgres) TLSDSN(role string) (string, error) {
	if !p.started() {
		return "", fmt.Errorf("aadpooltest: TLS cannot be set up on a server that somebody else started: unset %s",
			DatabaseEnv)
	}
	addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(p.port))
	return tlsDSN(role, addr, "postgres", filepath.Join(p.dir, serverCertFile)), nil
}

// tlsDSN returns the connection string of role at addr, trusting the certificates of the file rootCert only.
func tlsDSN(role, addr, database, rootCert string) string {
	return formatDSN(role, addr, database, url.Values{"sslmode": {"verify-full"}, "sslrootcert": {rootCert}})
}

func formatDSN(role, addr, database string, parameters url.Values) string {
	query := strings.ReplaceAll(parameters.Encode(), "+", "%20") // libpq, unlike pgx, takes + for itself
	dsn := url.URL{Scheme: "postgres", User: url.User(role), Host: addr, Path: "/" + database, RawQuery: query}
	return dsn.String()
}

// String names the server by its address: the DSN may hold a password.
func (p *Postgres) String() string {
	_, address := pgconn.NetworkAddress(p.config.Host, p.config.Port)
	return "aadpooltest.Postgres(" + address + ")"
}

// GoString is String.
func (p *Postgres) GoString() string { return p.String() }

// EnsureRole creates the role name with the right to log in, unless there is a role of that name already.
func (p *Postgres) EnsureRole(ctx context.Context, name string) error {
	err := p.exec(ctx, "CREATE ROLE "+quoteIdentifier(name)+" LOGIN")
	var pgErr *pgconn.PgError
	// unique_violation is what the slower of two that create it at once gets.
	if errors.As(err, &pgErr) && (pgErr.Code == "42710" || pgErr.Code == "23505") {
		return nil
	}
	if err != nil {
		return fmt.Errorf("aadpooltest: creating the role %q: %w", name, err)
	}
	return nil
}

// SetPassword sets the password of a role, and when it ends: with an access token and its expiry, PostgreSQL's own
// password check treats the token much as Azure's server does.
func (p *Postgres) SetPassword(ctx context.Context, role, password string, validUntil time.Time) error {
	err := p.exec(ctx, fmt.Sprintf("ALTER ROLE %s PASSWORD %s VALID UNTIL %s",
		quoteIdentifier(role), quoteLiteral(password), quoteLiteral(validUntil.UTC().Format(time.RFC3339Nano))))
	if err != nil {
		return fmt.Errorf("aadpooltest: setting the password of the role %q: %w", role, err)
	}
	return nil
}

// exec runs one statement as the superuser, on a connection of its own.
func (p *Postgres) exec(ctx context.Context, sql string) error {
	conn, err := pgconn.ConnectConfig(ctx, p.config)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, sql).ReadAll()
	return err
}

// connectAs opens a session of role, with the database and the run-time parameters that a client asked for.
func (p *Postgres) connectAs(
	ctx context.Context, role, database string, params map[string]string,
) (*pgconn.PgConn, error) {
	config := p.config.Copy()
	config.Database = database
	config.RuntimeParams = params
	if p.started() {
		config.User = role // the socket trusts whoever can reach it
		if p.relay != nil {
			if err := p.relay.use(config, p.port); err != nil {
				return nil, err
			}
		}
		return pgconn.ConnectConfig(ctx, config)
	}
	conn, err := pgconn.ConnectConfig(ctx, config)
	if err != nil {
		return nil, err
	}
	if _, err := conn.Exec(ctx, "SET SESSION AUTHORIZATION "+quoteIdentifier(role)).ReadAll(); err != nil {
		return nil, errors.Join(err, conn.Close(ctx))
	}
	return conn, nil
}

// cancel passes a client's cancel request on. The server closes the connection when it has dealt with it, and gives no
// other answer. See https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-CANCELING-REQUESTS.
func (p *Postgres) cancel(ctx context.Context, request *pgproto3.CancelRequest) error {
	packet, err := request.Encode(nil)
	if err != nil {
		return err
	}
	network, address := pgconn.NetworkAddress(p.config.Host, p.config.Port)
	conn, err := p.config.DialFunc(ctx, network, address)
	if err != nil {
		return err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	if _, err := conn.Write(packet); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, conn)
	return err
}

// started reports whether StartPostgres started the server, rather than found it running.
func (p *Postgres) started() bool { return p.stop != nil }

// Stop ends the sessions that are open, shuts the server down and removes its directory. It returns when no process is
// left. Calling it again does nothing; for a server that StartPostgres did not start it never does anything.
func (p *Postgres) Stop() error {
	if !p.started() {
		return nil
	}
	return p.stop()
}

// quoteIdentifier returns name as SQL's quoted identifier.
func quoteIdentifier(name string) string { return pgx.Identifier{name}.Sanitize() }

// quoteLiteral returns s as an SQL string literal. standard_conforming_strings, on by default, leaves backslashes
// alone.
func quoteLiteral(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }
