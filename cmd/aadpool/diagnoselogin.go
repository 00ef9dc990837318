package main

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/aadpool/aadpool"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/reach"
	"github.com/aadpool/aadpool/internal/refusal"
	"github.com/aadpool/aadpool/internal/token"
)

// diagnoseLogin says why the server has let nobody in.
func (c *check) diagnoseLogin(ctx context.Context, err error) *diagnosis {
	if noToken, ok := errors.AsType[*aadpool.TokenError](err); ok {
		return diagnoseCredential(c.command.credentialFlags, c.credential, noToken.Err)
	}
	if refused, ok := aadpool.Explain(err); ok {
		d := c.diagnoseRefusal(refused)
		if d.Meaning == "" {
			d.Meaning = strings.ToUpper(refused.Advice[:1]) + refused.Advice[1:] + "."
		}
		return d
	}
	if said, ok := errors.AsType[*pgconn.PgError](err); ok {
		return c.diagnoseServerError(said)
	}
	return c.diagnoseBrokenLogin(ctx, err)
}

// diagnoseRefusal is for a login that was refused as such. Without a meaning the advice of package aadpool is it.
func (c *check) diagnoseRefusal(r aadpool.Refusal) *diagnosis {
	role := c.target.config.ConnConfig.User
	switch r.Reason {
	case aadpool.ReasonTooLong:
		return &diagnosis{Cause: causeTokenLength, Fix: []string{"# in the DSN, for the server itself instead of its PgBouncer:", "port=5432"}, status: exitToken}
	case aadpool.ReasonExpired:
		return &diagnosis{Cause: causeClock, Fix: setClock(), status: exitToken}
	case aadpool.ReasonAudience:
		return &diagnosis{Cause: causeWrongScope, Fix: rightScope(r.Message), status: exitToken}
	case aadpool.ReasonFormat:
		return &diagnosis{Cause: causeTokenFormat, Fix: wrongScope(), status: exitToken}
	case aadpool.ReasonInvalid:
		return c.otherTenant()
	case aadpool.ReasonOAuth:
		return &diagnosis{Cause: causeOAuth, Fix: append([]string{"# pg_hba.conf says which validator, scope and map it takes:", "select * from pg_hba_file_rules where auth_method = 'oauth';"}, wrongScope()...),
			status: exitToken}
	case aadpool.ReasonPlaintext:
		return &diagnosis{Cause: causePlaintext, Fix: []string{"# in the DSN:", "sslmode=verify-full"}, status: exitPlaintext}
	case aadpool.ReasonForbidden:
		return c.notAllowed()
	case aadpool.ReasonLockedOut:
		return &diagnosis{Cause: causeLockedOut, Fix: []string{"# stop what keeps failing, wait some minutes, and run this again"}, status: exitRole}
	case aadpool.ReasonKind:
		return c.otherPrincipal(role)
	case aadpool.ReasonRole:
		return c.wrongRole(role)
	}
	return &diagnosis{Cause: causeLogin, Meaning: "The server refused the login in words that are not known here: they are above. Most often it is the role: missing, or another principal's.",
		Fix: []string{asAdministrator, listPrincipals(role)}, status: exitRole}
}

// diagnoseServerError is for a server that takes the token and the role, and does not let them in. PgBouncer has one
// SQLSTATE for all that it says itself: 08P01.
func (c *check) diagnoseServerError(e *pgconn.PgError) *diagnosis {
	role, database := c.target.config.ConnConfig.User, c.target.database()
	bouncer := func(part string) bool { return e.Code == "08P01" && strings.Contains(e.Message, part) }
	switch {
	case e.Code == "3D000" && c.target.config.ConnConfig.Database == "":
		return &diagnosis{Cause: causeNoDatabase, Meaning: fmt.Sprintf("The DSN names no database, so PostgreSQL takes the role's name, "+
			"and it has no database %q.", database), Fix: []string{"# in the DSN, the database's name:", "dbname=…"}, status: exitDatabase}
	case e.Code == "3D000":
		return &diagnosis{Cause: causeNoDatabase, Meaning: fmt.Sprintf("The server takes the token and the role, but has no database %q. Names are case-sensitive.", database),
			Fix:    []string{"az postgres flexible-server db list " + serverFlags(c.hosts[0].name, "--server-name") + ` --query "[].name" -o tsv`, createDatabase(database)},
			status: exitDatabase, automatic: fixByDatabase(database)}
	case bouncer("no such database"):
		return &diagnosis{Cause: causeNoDatabase, Meaning: fmt.Sprintf("What answers is a PgBouncer, and it has no database %q.", database),
			Fix: []string{"# in its pgbouncer.ini, under [databases]; on its console: show databases;"}, status: exitDatabase}
	case e.Code == "42501":
		return &diagnosis{Cause: causeNoConnect, Meaning: fmt.Sprintf("The server takes the token and the role, but %q has no right to connect to the database %q.", role, database),
			Fix: []string{"-- as the owner of the database:", grantConnect(role, database)}, status: exitDatabase, automatic: fixByConnect(role, database)}
	case strings.HasPrefix(e.Code, "53"):
		return &diagnosis{Cause: causeConnections, Meaning: "The server, the database or the role has as many connections as it may have.",
			Fix: []string{"select usename, state, count(*) from pg_stat_activity group by 1, 2 order by 3 desc;", "# and a smaller pool_max_conns in the DSN of each instance"}, status: exitDatabase}
	case bouncer("no more connections allowed"):
		return &diagnosis{Cause: causeConnections, Meaning: "What answers is a PgBouncer, and it has as many clients as it may have.",
			Fix: []string{"# in its pgbouncer.ini: max_client_conn; and a smaller pool_max_conns in the DSN of each instance"}, status: exitDatabase}
	}
	return &diagnosis{Cause: causeLogin, Meaning: "The server does not let the connection in, for a reason of its own: its words are above.", status: exitDatabase}
}

// diagnoseBrokenLogin is for a server that has not said why.
func (c *check) diagnoseBrokenLogin(ctx context.Context, err error) *diagnosis {
	if errors.Is(err, context.DeadlineExceeded) {
		return &diagnosis{Cause: causeLogin, Meaning: "The server took the connection but did not answer in time.",
			Fix: []string{"az postgres flexible-server show " + serverFlags(c.hosts[0].name, "--name") + " --query state -o tsv"}, status: exitDatabase}
	}
	if closed, ok := errors.AsType[*refusal.WordlessError](err); ok && closed.IsTooLong() && c.answersAShortPassword(ctx) {
		return &diagnosis{Cause: causeOldServer, Meaning: fmt.Sprintf("The server answers a short password, and closes the connection at the token of %d bytes without a word: "+
			"it is a PostgreSQL before version 14, which takes none so long, or a proxy with a bound of its own.", closed.TokenSize),
			Fix:    []string{"az postgres flexible-server upgrade " + serverFlags(c.hosts[0].name, "--name") + " --version 17"},
			status: exitToken}
	}
	return &diagnosis{Cause: causeLogin, Meaning: "The connection broke during the login: a firewall or proxy between here and the server, or the server itself, has ended it.",
		Fix: []string{"# try again, and without the proxy"}, status: exitDatabase}
}

// answersAShortPassword reports whether the server says something to a password that it cannot take.
func (c *check) answersAShortPassword(ctx context.Context) bool {
	config := c.target.secured.ConnConfig.Copy()
	config.Password = "not a token"
	_, _ = reach.Addresses(ctx, &config.Config) // whose error pgconn repeats
	conn, err := pgx.ConnectConfig(ctx, config)
	if err == nil {
		_ = conn.Close(ctx)
		return true
	}
	_, answered := errors.AsType[*pgconn.PgError](err)
	return answered
}

// wrongRole is for "password authentication failed", which is all that the server says of a role that it does not have,
// or that is not the token's.
func (c *check) wrongRole(role string) *diagnosis {
	switch {
	case !c.target.NamesUser && c.facts.name != role:
		return c.noUser(role)
	case c.facts.name == "" || c.facts.name == role:
		return c.roleMissing(role)
	case strings.EqualFold(c.facts.name, role):
		return &diagnosis{
			Cause:   causeRoleCase,
			Meaning: fmt.Sprintf("Role names are case-sensitive: the DSN says %q, and the token is for %q.", role, c.facts.name),
			Fix:     inDSN(c.facts.name),
			status:  exitRole,
		}
	case c.mayBeGroup(role):
		return c.notInGroup(role)
	}
	return c.otherPrincipal(role)
}

func (c *check) noUser(role string) *diagnosis {
	d := &diagnosis{
		Cause:   causeNoUser,
		Meaning: fmt.Sprintf("The DSN names no user, so pgx takes the operating system's, %q, and the server has no such role for %s.", role, c.principal()),
		Fix:     []string{"# in the DSN, the role's name:", "user=…"},
		status:  exitRole,
	}
	if c.facts.name != "" {
		d.Fix = append(inDSN(c.facts.name), "# or that of a group with it as a member; or in the program aadpool.WithUserFromToken()")
	}
	return d
}

// mayBeGroup guesses: a user's role has an @ in it. That of a service principal or managed identity has none either, and
// so the diagnosis speaks of both.
func (c *check) mayBeGroup(role string) bool {
	return !strings.Contains(role, "@") && c.facts.kind == token.User
}

func (c *check) roleMissing(role string) *diagnosis {
	missing := &roleCommand{Name: role}
	if c.facts.name == "" && c.facts.objectID != "" { // the name is not in the token, so it need not be the right one
		missing.ObjectID, missing.Kind = c.facts.objectID, c.kind()
	}
	d := &diagnosis{
		Cause: causeRoleMissing,
		Meaning: fmt.Sprintf("The token is good and is for %s, but the server has no role %q for it: the role is missing, was made with a password, or was made for another object id. "+
			"If access is given to a group, its name goes into the DSN.", c.principal(), role),
		Fix:    []string{asAdministrator, missing.create(), "-- whose the role is, if it is there:", listPrincipals(role)},
		status: exitRole,
	}
	if c.facts.objectID != "" { // by it, so that the role is no other principal's of that name
		d.automatic = fixByRole(&roleCommand{Name: role, ObjectID: c.facts.objectID, Kind: c.kind()})
	}
	return d
}

func (c *check) otherPrincipal(role string) *diagnosis {
	missing := &roleCommand{Name: role}
	fix := append(inDSN(c.facts.name), "# or, if the DSN is right, log in as the principal that the role is for; whose it is:",
		asAdministrator, listPrincipals(role), "-- if it is missing:", missing.create())
	d := &diagnosis{Cause: causeRoleOther, Fix: fix, status: exitRole}
	if c.facts.name == "" {
		d.Fix = fix[len(inDSN("")):]
	}
	d.Meaning = fmt.Sprintf("The token is for %s, and the role %q is another principal's, or is missing.", c.principal(), role)
	return d
}

func (c *check) notInGroup(role string) *diagnosis {
	group, member := shellQuote(role), c.facts.objectID
	return &diagnosis{
		Cause: causeGroup,
		Meaning: fmt.Sprintf("The token is for %s, and the role %q looks like a group's. Only its members may log in as it; with group sync on the server, members log in with their own name. "+
			"If it is no group, it is the role of another principal, or is missing.", c.principal(), role),
		Fix: append([]string{
			"# is it a member, and if not:",
			"az ad group member check --group " + group + " --member-id " + member,
			"az ad group member add --group " + group + " --member-id " + member,
			"# to log in as the member instead,"}, inDSN(c.facts.name)...),
		status: exitRole,
	}
}

func (c *check) otherTenant() *diagnosis {
	tenant := "az postgres flexible-server show " + serverFlags(c.hosts[0].name, "--name") + " --query authConfig.tenantId -o tsv"
	login := `az login --tenant "$(` + tenant + `)"`
	if c.facts.kind != token.User {
		login = "export AZURE_TENANT_ID=$(" + tenant + ")"
	}
	return &diagnosis{
		Cause:   causeWrongTenant,
		Meaning: fmt.Sprintf("The server cannot verify the token, which is of the tenant %s: most likely the server is in another.", c.facts.tenant),
		Fix:     []string{"# the server's tenant:", tenant, login},
		status:  exitToken,
	}
}

func (c *check) notAllowed() *diagnosis {
	flags := serverFlags(c.hosts[0].name, "--name")
	return &diagnosis{
		Cause: causeNotAllowed,
		Fix: []string{
			"az postgres flexible-server update " + flags + " --microsoft-entra-auth Enabled",
			"az postgres flexible-server firewall-rule list " + serverFlags(c.hosts[0].name, "--server-name") + " -o table",
		},
		status: exitDatabase,
	}
}

func diagnoseQuery() *diagnosis {
	return &diagnosis{Cause: causeQuery, Meaning: "The login succeeded, but the first query failed.", status: exitDatabase}
}

var quotedResource = regexp.MustCompile(`"(https://[^"\s]+?)/?"`)

// rightScope is the scope that the server's message asks for.
func rightScope(message string) []string {
	if resource := quotedResource.FindStringSubmatch(message); resource != nil {
		scope := resource[1] + "/.default"
		return []string{fmt.Sprintf("# in the program: aadpool.WithScope(%q)", scope), "aadpool check --scope " + shellQuote(scope)}
	}
	return wrongScope()
}

func inDSN(role string) []string { return []string{"# in the DSN:", "user=" + conninfoValue(role)} }

// conninfoValue quotes a value of a DSN of keywords:
// https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNSTRING-KEYWORD-VALUE
func conninfoValue(s string) string {
	if s != "" && !strings.ContainsAny(s, ` \'`) {
		return s
	}
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(s) + "'"
}

func (c *check) principal() string {
	if c.facts.name == "" {
		return fmt.Sprintf("a %s with object id %s", c.facts.kind, c.facts.objectID)
	}
	return fmt.Sprintf("%q (a %s)", c.facts.name, c.facts.kind)
}

// kind is the principal's, as --kind of aadpool role has it.
func (c *check) kind() string {
	if c.facts.kind == token.User {
		return "user"
	}
	return "service-principal"
}
