package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/aadpool/aadpool"
	diag "github.com/aadpool/aadpool/cmd/aadpool/internal/diagnosis"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/server"
	"github.com/aadpool/aadpool/internal/refusal"
	"github.com/aadpool/aadpool/internal/token"
)

// compareRole sets the role of the DSN beside the one that the token is for. It never fails: the role may be a group's,
// and only the server knows.
func (c *check) compareRole(ctx context.Context) *diagnosis {
	return c.timed(ctx, "role", func(context.Context) (step, *diagnosis) {
		return describeRole(c.target.Config.ConnConfig.User, c.facts, c.target.NamesUser), nil
	})
}

func describeRole(role string, f tokenFacts, named bool) step {
	guest := token.Printable(f.claims.Guest())
	matches := role == f.name || f.claims.IsFor(role)
	s := step{Details: map[string]any{"role": role, "token_name": f.name, "matches": matches}}
	switch {
	case role == f.name:
		s.Text = fmt.Sprintf("%q is the name in the token", role)
		return s
	case matches:
		s.Text = fmt.Sprintf("%q is the name that the guest %s has in this tenant", role, guest)
		return s
	case guest != "" && named:
		s.Text = fmt.Sprintf("the DSN says %q, and the token is for the guest %s, who in this tenant, and so in the database, "+
			"is named …#EXT#@<tenant>.onmicrosoft.com: az ad signed-in-user show --query userPrincipalName -o tsv prints it",
			role, guest)
	case f.name == "":
		s.Text = fmt.Sprintf("the token names nobody, so whether %q is right is for the server to say", role)
	case !named:
		s.Text = fmt.Sprintf("the DSN names no user, so it is the operating system's, %q; the token is for %q", role, f.name)
	case strings.EqualFold(role, f.name):
		s.Text = fmt.Sprintf("the DSN says %q, the token %q: case matters", role, f.name)
	default:
		s.Text = fmt.Sprintf("the DSN says %q, the token %q: right only if %q is a group with %s as a member, or a role made for its object id",
			role, f.name, role, f.name)
	}
	s.Outcome = warned
	return s
}

// logIn connects as the pool does.
func (c *check) logIn(ctx context.Context) *diagnosis {
	return c.timed(ctx, "login", func(ctx context.Context) (step, *diagnosis) {
		role := c.target.Config.ConnConfig
		conn, err := c.connect(ctx, role.User, role.Database)
		if err != nil {
			return step{Text: server.ErrorText(err)}, c.diagnoseLogin(ctx, err)
		}
		c.conn = conn
		return step{Text: fmt.Sprintf("as %q", role.User)}, nil
	})
}

// connect is one connection to the server of the DSN.
func (c *check) connect(ctx context.Context, role, database string) (*pgx.Conn, error) {
	return server.Connect(ctx, c.hook, c.target.Secured.ConnConfig, role, database)
}

// rightsQuery also serves on a PgBouncer that pools transactions.
const rightsQuery = `select current_database(), session_user::text,
	has_database_privilege(session_user, current_database(), 'CONNECT'),
	coalesce((select rolconnlimit from pg_catalog.pg_roles where rolname = session_user), -1)`

// askServer asks for the server's version and the role's rights, and ends the session.
func (c *check) askServer(ctx context.Context) *diagnosis {
	defer func() { _ = c.conn.Close(context.WithoutCancel(ctx)) }()
	version := c.conn.PgConn().ParameterStatus("server_version")
	if d := c.timed(ctx, "server", func(context.Context) (step, *diagnosis) {
		return step{Text: "PostgreSQL " + version, Details: map[string]any{"version": version}}, nil
	}); d != nil {
		return d
	}
	return c.timed(ctx, "rights", func(ctx context.Context) (step, *diagnosis) {
		var database, role string
		var connect bool
		var limit int32
		row := c.conn.QueryRow(ctx, rightsQuery, pgx.QueryExecModeSimpleProtocol)
		if err := row.Scan(&database, &role, &connect, &limit); err != nil {
			return step{Text: server.ErrorText(err)}, diag.OfQuery()
		}
		return describeRights(database, role, connect, limit), nil
	})
}

func describeRights(database, role string, connect bool, limit int32) step {
	s := step{
		Text:    fmt.Sprintf("%q may connect to database %q, with no limit of connections of its own", role, database),
		Details: map[string]any{"database": database, "role": role, "connect": connect, "connection_limit": limit},
	}
	if limit >= 0 {
		s.Text = fmt.Sprintf("%q may connect to database %q, with at most %d connections", role, database, limit)
	}
	if !connect { // a server that lets it in nevertheless: through a pooler that logs in by itself, for example
		s.Outcome = warned
		s.Text = fmt.Sprintf("%q is in, but has no right to connect to database %q", role, database)
	}
	return s
}

// showPool says how a pool on this DSN would be set.
func (c *check) showPool(ctx context.Context) *diagnosis {
	return c.timed(ctx, "pool", func(context.Context) (step, *diagnosis) {
		config := c.target.Secured
		return step{
			Text: fmt.Sprintf("MaxConnLifetime %s, MaxConnLifetimeJitter %s; MaxConns %d, MinConns %d",
				config.MaxConnLifetime, config.MaxConnLifetimeJitter, config.MaxConns, config.MinConns),
			Details: map[string]any{
				"max_conn_lifetime_seconds": config.MaxConnLifetime.Seconds(), "max_conn_lifetime_jitter_seconds": config.MaxConnLifetimeJitter.Seconds(),
				"max_conns": config.MaxConns, "min_conns": config.MinConns,
			},
		}, nil
	})
}

// loginFacts is what is known of a login.
func (c *check) loginFacts() diag.LoginFacts {
	config := c.target.Config.ConnConfig
	return diag.LoginFacts{Server: c.hosts[0].Server(), Role: config.User, Database: config.Database,
		NamesUser: c.target.NamesUser, Claims: c.facts.claims, TokenSize: c.facts.size}
}

// diagnoseLogin says why the server has let nobody in.
func (c *check) diagnoseLogin(ctx context.Context, err error) *diagnosis {
	if noToken, ok := errors.AsType[*aadpool.TokenError](err); ok {
		return c.credential.Diagnose(noToken.Err)
	}
	if said, ok := errors.AsType[*pgconn.PgError](err); ok {
		return diag.OfServer(c.loginFacts(), said)
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return diag.OfSilence(c.hosts[0].Server())
	}
	if closed, ok := errors.AsType[*refusal.WordlessError](err); ok && closed.IsTooLong() && server.AnswersAShortPassword(ctx, c.target.Secured.ConnConfig) {
		return diag.OfLongToken(c.hosts[0].Server(), closed.TokenSize)
	}
	return diag.OfBrokenLogin()
}
