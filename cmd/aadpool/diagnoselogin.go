package main

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// diagnoseLogin says why the server has let nobody in. The meaning is mostly the Hint that package aadpool puts into the
// error of a refused login.
func (c *check) diagnoseLogin(err error) *diagnosis {
	refused, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		return c.diagnoseBrokenLogin(err)
	}
	d := c.diagnoseRefusal(refused)
	if d.Meaning == "" {
		d.Meaning = hintMeaning(refused.Hint)
	}
	if d.Meaning == "" {
		d.Meaning = "The server refused the login for a reason of its own: " + refused.Message + "."
	}
	return d
}

// hintMeaning is a Hint of package aadpool as a sentence, without the facts of the token, which have a line of their own.
func hintMeaning(hint string) string {
	text, _, _ := strings.Cut(strings.TrimPrefix(hint, "aadpool: "), " (the token is for ")
	if text == "" {
		return ""
	}
	return strings.ToUpper(text[:1]) + text[1:] + "."
}

func (c *check) diagnoseBrokenLogin(err error) *diagnosis {
	if errors.Is(err, context.DeadlineExceeded) {
		return &diagnosis{Cause: causeLogin, Meaning: "The server took the connection but did not answer in time.",
			Mend: []string{"az postgres flexible-server show " + serverFlags(c.hosts[0].name, "--name") + " --query state -o tsv"}, status: exitDatabase}
	}
	return &diagnosis{Cause: causeLogin, Meaning: "The connection broke during the login: a firewall or proxy between here and the server, or the server itself, has ended it.",
		Mend: []string{"# try again, and without the proxy"}, status: exitDatabase}
}

// diagnoseRefusal goes by the server's words, short parts of them, since Azure documents neither them nor their
// SQLSTATEs. Without a meaning the error's Hint is it.
func (c *check) diagnoseRefusal(e *pgconn.PgError) *diagnosis {
	says := func(part string) bool { return strings.Contains(strings.ToLower(e.Message), part) }
	role, database := c.target.config.ConnConfig.User, c.target.config.ConnConfig.Database
	switch {
	case says("partial pkt"):
		return &diagnosis{Cause: causeTokenLength, Mend: []string{"# in the DSN, for the server itself instead of its PgBouncer:", "port=5432"}, status: exitToken}
	case says("expired"):
		return &diagnosis{Cause: causeClock, Mend: setClock(), status: exitToken}
	case says("audience"):
		return &diagnosis{Cause: causeWrongScope, Mend: rightScope(e.Message), status: exitToken}
	case says("app_user"):
		return c.otherPrincipal(role)
	case says("invalid format"):
		return &diagnosis{Cause: causeTokenFormat, Mend: wrongScope(), status: exitToken}
	case says("access token"):
		return c.otherTenant()
	case says("pg_hba.conf"):
		return c.notAllowed()
	case says("too many failed"):
		return &diagnosis{Cause: causeLockedOut, Mend: []string{"# stop what keeps failing, wait some minutes, and run this again"}, status: exitRole}
	case e.Code == "3D000":
		return &diagnosis{Cause: causeNoDatabase, Meaning: fmt.Sprintf("The server takes the token and the role, but has no database %q. Names are case-sensitive.", database),
			Mend:   []string{"az postgres flexible-server db list " + serverFlags(c.hosts[0].name, "--server-name") + ` --query "[].name" -o tsv`, "create database " + identifier(database) + ";"},
			status: exitDatabase}
	case e.Code == "42501":
		return &diagnosis{Cause: causeNoConnect, Meaning: fmt.Sprintf("The server takes the token and the role, but %q has no right to connect to the database %q.", role, database),
			Mend: []string{"-- as the owner of the database:", "grant connect on database " + identifier(database) + " to " + identifier(role) + ";"}, status: exitDatabase}
	case strings.HasPrefix(e.Code, "53"):
		return &diagnosis{Cause: causeConnections, Meaning: "The server, the database or the role has as many connections as it may have: " + e.Message + ".",
			Mend: []string{"select usename, state, count(*) from pg_stat_activity group by 1, 2 order by 3 desc;", "# and a smaller pool_max_conns in the DSN of each instance"}, status: exitDatabase}
	case strings.HasPrefix(e.Code, "28"):
		return c.wrongRole(role)
	}
	return &diagnosis{Cause: causeLogin, status: exitDatabase}
}

// wrongRole is for "password authentication failed", which is all that the server says of a role that it does not have,
// or that is not the token's.
func (c *check) wrongRole(role string) *diagnosis {
	switch {
	case c.facts.name == "" || c.facts.name == role:
		return c.roleMissing(role)
	case strings.EqualFold(c.facts.name, role):
		return &diagnosis{
			Cause:   causeRoleCase,
			Meaning: fmt.Sprintf("Role names are case-sensitive: the DSN says %q, and the token is for %q.", role, c.facts.name),
			Mend:    inDSN(c.facts.name),
			status:  exitRole,
		}
	case c.mayBeGroup(role):
		return c.notInGroup(role)
	}
	return c.otherPrincipal(role)
}

// mayBeGroup guesses: a user's role has an @ in it. That of a service principal or managed identity has none either, and
// so the diagnosis speaks of both.
func (c *check) mayBeGroup(role string) bool {
	return !strings.Contains(role, "@") && c.facts.kind == kindUser
}

func (c *check) roleMissing(role string) *diagnosis {
	create := createPrincipal(role)
	if c.facts.name == "" && c.facts.objectID != "" { // the name is not in the token, so it need not be the right one
		create = createPrincipalWithID(role, c.facts.objectID, c.objectType())
	}
	return &diagnosis{
		Cause: causeRoleMissing,
		Meaning: fmt.Sprintf("The token is good and is for %s, but the server has no role %q for it: the role is missing, was made with a password, or was made for another object id. "+
			"If access is given to a group, its name goes into the DSN.", c.principal(), role),
		Mend:   []string{asAdministrator, create, "-- whose the role is, if it is there:", listPrincipals(role)},
		status: exitRole,
	}
}

func (c *check) otherPrincipal(role string) *diagnosis {
	mend := append(inDSN(c.facts.name), "# or, if the DSN is right, log in as the principal that the role is for; whose it is:",
		asAdministrator, listPrincipals(role), "-- if it is missing:", createPrincipal(role))
	d := &diagnosis{Cause: causeRoleOther, Mend: mend, status: exitRole}
	if c.facts.name == "" {
		d.Mend = mend[len(inDSN("")):]
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
		Mend: append([]string{
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
	if c.facts.kind != kindUser {
		login = "export AZURE_TENANT_ID=$(" + tenant + ")"
	}
	return &diagnosis{
		Cause:   causeWrongTenant,
		Meaning: fmt.Sprintf("The server cannot verify the token, which is of the tenant %s: most likely the server is in another.", c.facts.tenant),
		Mend:    []string{"# the server's tenant:", tenant, login},
		status:  exitToken,
	}
}

func (c *check) notAllowed() *diagnosis {
	flags := serverFlags(c.hosts[0].name, "--name")
	return &diagnosis{
		Cause: causeNotAllowed,
		Mend: []string{
			"az postgres flexible-server update " + flags + " --microsoft-entra-auth Enabled",
			"az postgres flexible-server firewall-rule list " + serverFlags(c.hosts[0].name, "--server-name") + " -o table",
		},
		status: exitDatabase,
	}
}

func diagnoseQuery(err error) *diagnosis {
	return &diagnosis{Cause: causeQuery, Meaning: "The login succeeded, but the first query failed: " + loginError(err) + ".", status: exitDatabase}
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

func (c *check) objectType() string {
	if c.facts.kind == kindUser {
		return "user"
	}
	return "service"
}
