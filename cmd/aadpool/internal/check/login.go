package check

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/aadpool/aadpool"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/diagnosis"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/report"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/server"
	"github.com/aadpool/aadpool/internal/refusal"
	"github.com/aadpool/aadpool/internal/token"
)

// compareRole sets the role of the DSN beside the one that the token is for. It never fails: the role may be a
// group's, and only the server knows.
func (c *Check) compareRole(ctx context.Context) *diagnosis.Diagnosis {
	return c.timed(ctx, "role", func(context.Context) (report.Step, *diagnosis.Diagnosis) {
		return describeRole(c.target.Config.ConnConfig.User, c.facts, c.target.NamesUser), nil
	})
}

func describeRole(role string, f TokenFacts, named bool) report.Step {
	guest := token.Printable(f.Claims.Guest())
	matches := role == f.Name || f.Claims.IsFor(role)
	s := report.Step{Details: map[string]any{"role": role, "token_name": f.Name, "matches": matches}}
	switch {
	case role == f.Name:
		s.Text = fmt.Sprintf("%q is the name in the token", role)
		return s
	case matches:
		s.Text = fmt.Sprintf("%q is the name that the guest %s has in this tenant", role, guest)
		return s
	case guest != "" && named:
		s.Text = fmt.Sprintf("the DSN says %q, and the token is for the guest %s, who in this tenant, and so in the "+
			"database, is named …#EXT#@<tenant>.onmicrosoft.com: az ad signed-in-user show --query userPrincipalName -o tsv "+
			"prints it",
			role, guest)
	case f.Name == "":
		s.Text = fmt.Sprintf("the token names nobody, so whether %q is right is for the server to say", role)
	case !named:
		s.Text = fmt.Sprintf("the DSN names no user, so it is the operating system's, %q; the token is for %q", role, f.Name)
	case strings.EqualFold(role, f.Name):
		s.Text = fmt.Sprintf("the DSN says %q, the token %q: case matters", role, f.Name)
	default:
		s.Text = fmt.Sprintf("the DSN says %q, the token %q: right only if %q is a group with %s as a member, or a role "+
			"made for its object id",
			role, f.Name, role, f.Name)
	}
	s.Outcome = report.Warned
	return s
}

// logIn connects as the pool does.
func (c *Check) logIn(ctx context.Context) *diagnosis.Diagnosis {
	return c.timed(ctx, "login", func(ctx context.Context) (report.Step, *diagnosis.Diagnosis) {
		role := c.target.Config.ConnConfig
		conn, err := c.connect(ctx, role.User, role.Database)
		if err != nil {
			return report.Step{Text: server.ErrorText(err)}, c.diagnoseLogin(ctx, err)
		}
		c.conn = conn
		return report.Step{Text: fmt.Sprintf("as %q", role.User)}, nil
	})
}

// connect is one connection to the server of the DSN.
func (c *Check) connect(ctx context.Context, role, database string) (*pgx.Conn, error) {
	return server.Connect(ctx, c.source.Hook, c.target.Secured.ConnConfig, role, database)
}

// rightsQuery also serves on a PgBouncer that pools transactions.
const rightsQuery = `select current_database(), session_user::text,
	has_database_privilege(session_user, current_database(), 'CONNECT'),
	coalesce((select rolconnlimit from pg_catalog.pg_roles where rolname = session_user), -1)`

// askServer asks for the server's version and the role's rights, and ends the session.
func (c *Check) askServer(ctx context.Context) *diagnosis.Diagnosis {
	defer func() { _ = c.conn.Close(context.WithoutCancel(ctx)) }()
	version := c.conn.PgConn().ParameterStatus("server_version")
	if d := c.timed(ctx, "server", func(context.Context) (report.Step, *diagnosis.Diagnosis) {
		return report.Step{Text: "PostgreSQL " + version, Details: map[string]any{"version": version}}, nil
	}); d != nil {
		return d
	}
	return c.timed(ctx, "rights", func(ctx context.Context) (report.Step, *diagnosis.Diagnosis) {
		var database, role string
		var connect bool
		var limit int32
		row := c.conn.QueryRow(ctx, rightsQuery, pgx.QueryExecModeSimpleProtocol)
		if err := row.Scan(&database, &role, &connect, &limit); err != nil {
			return report.Step{Text: server.ErrorText(err)}, diagnosis.OfQuery()
		}
		return describeRights(database, role, connect, limit), nil
	})
}

func describeRights(database, role string, connect bool, limit int32) report.Step {
	s := report.Step{
		Text:    fmt.Sprintf("%q may connect to database %q, with no limit of connections of its own", role, database),
		Details: map[string]any{"database": database, "role": role, "connect": connect, "connection_limit": limit},
	}
	if limit >= 0 {
		s.Text = fmt.Sprintf("%q may connect to database %q, with at most %d connections", role, database, limit)
	}
	if !connect { // a server that lets it in nevertheless: through a pooler that logs in by itself, for example
		s.Outcome = report.Warned
		s.Text = fmt.Sprintf("%q is in, but has no right to connect to database %q", role, database)
	}
	return s
}

// showPool says how a pool on this DSN would be set.
func (c *Check) showPool(ctx context.Context) *diagnosis.Diagnosis {
	return c.timed(ctx, "pool", func(context.Context) (report.Step, *diagnosis.Diagnosis) {
		config := c.target.Secured
		return report.Step{
			Text: fmt.Sprintf("MaxConnLifetime %s, MaxConnLifetimeJitter %s; MaxConns %d, MinConns %d",
				config.MaxConnLifetime, config.MaxConnLifetimeJitter, config.MaxConns, config.MinConns),
			Details: map[string]any{
				"max_conn_lifetime_seconds":        config.MaxConnLifetime.Seconds(),
				"max_conn_lifetime_jitter_seconds": config.MaxConnLifetimeJitter.Seconds(),
				"max_conns":                        config.MaxConns, "min_conns": config.MinConns,
			},
		}, nil
	})
}

// loginFacts is what is known of a login.
func (c *Check) loginFacts() diagnosis.LoginFacts {
	config := c.target.Config.ConnConfig
	return diagnosis.LoginFacts{Server: c.hosts[0].Server(), Role: config.User, Database: config.Database,
		NamesUser: c.target.NamesUser, Claims: c.facts.Claims, TokenSize: c.facts.Size}
}

// diagnoseLogin says why the server has let nobody in.
func (c *Check) diagnoseLogin(ctx context.Context, err error) *diagnosis.Diagnosis {
	if noToken, ok := errors.AsType[*aadpool.TokenError](err); ok {
		return c.source.Credential.Diagnose(noToken.Err)
	}
	if said, ok := errors.AsType[*pgconn.PgError](err); ok {
		facts := c.loginFacts()
		facts.Refusal, _ = aadpool.Explain(err)
		return diagnosis.OfServer(facts, said)
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return diagnosis.OfSilence(c.hosts[0].Server())
	}
	closed, ok := errors.AsType[*refusal.WordlessError](err)
	if ok && closed.IsTooLong() && server.AnswersAShortPassword(ctx, c.target.Secured.ConnConfig) {
		return diagnosis.OfLongToken(c.hosts[0].Server(), closed.TokenSize)
	}
	return diagnosis.OfBrokenLogin()
}

// LogInTo connects to another database of the server, and reports that.
func (c *Check) LogInTo(ctx context.Context, database string) (conn *pgx.Conn, d *diagnosis.Diagnosis) {
	d = c.timed(ctx, "login", func(ctx context.Context) (report.Step, *diagnosis.Diagnosis) {
		c.target.Config.ConnConfig.Database = database // which a diagnosis names
		user := c.target.Config.ConnConfig.User
		var err error
		if conn, err = c.connect(ctx, user, database); err != nil {
			return report.Step{Text: server.ErrorText(err)}, c.diagnoseLogin(ctx, err)
		}
		return report.Step{Text: fmt.Sprintf("as %q, to database %q", user, database)}, nil
	})
	return conn, d
}

// Host is the first of the DSN's servers. It is known once [Check.ReadDSN] has succeeded.
func (c *Check) Host() string { return c.hosts[0].Name }

// Token is what the token says. It is known once [Check.GetToken] has succeeded.
func (c *Check) Token() TokenFacts { return c.facts }
