package diagnosis

import (
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/aadpool/aadpool"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/shell"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/statement"
	"github.com/aadpool/aadpool/internal/lazyregexp"
	"github.com/aadpool/aadpool/internal/refusal"
	"github.com/aadpool/aadpool/internal/token"
)

// LoginFacts is what is known of a login.
type LoginFacts struct {
	Server         Server
	Role, Database string // Database may be empty: PostgreSQL then takes the role's name
	NamesUser      bool   // the role is said, and not the operating system's user for want of one
	Claims         token.Claims
	TokenSize      int             // in bytes
	Refusal        aadpool.Refusal // what package aadpool makes of the server's words; zero if they refuse no login
}

// database is the one that the server takes.
func (l LoginFacts) database() string {
	if l.Database == "" {
		return l.Role
	}
	return l.Database
}

// name is the role that the token's principal has; empty if the token does not tell.
func (l LoginFacts) name() string {
	name, err := l.Claims.UserName()
	if err != nil {
		return ""
	}
	return name
}

func (l LoginFacts) objectID() string { return l.Claims.Text("oid") }

// OfServer is for what the server has said to a login.
func OfServer(l LoginFacts, e *pgconn.PgError) *Diagnosis {
	row := refusal.Find(e, l.TokenSize)
	d := &Diagnosis{Cause: Cause(row.Cause), Meaning: row.Means, Status: statusOf(row)}
	if l.Refusal.Advice != "" && slices.Contains(advised, row.Cause) {
		d.Meaning = sentence(l.Refusal.Advice)
	}
	if fix, ok := loginFixes[row.Cause]; ok {
		fix(l, refusal.Words(e), d)
	}
	if len(d.Fix) == 0 {
		d.Fix = []string{"# " + strings.TrimSuffix(refusal.Expand(row.Do, l.refusalFacts()), ".")}
	}
	return d
}

// advised are the causes of which the advice says more than what they mean: it names what was sent.
var advised = []string{"token-too-long", "clock", "wrong-scope", "token-format", "oauth-validator", "plaintext",
	"not-allowed", "locked-out"}

func (l LoginFacts) refusalFacts() refusal.Facts {
	return refusal.Facts{Role: l.Role, Claims: l.Claims, Size: l.TokenSize}
}

// statusOf is the exit status for a row: by what the server does not take.
func statusOf(row refusal.Row) Status {
	switch row.Reason {
	case refusal.Expired, refusal.Audience, refusal.Format, refusal.Invalid, refusal.TooLong, refusal.OAuth:
		return Token
	case refusal.Role, refusal.Kind, refusal.LockedOut, refusal.Unrecognised:
		return Role
	case refusal.Plaintext:
		return Plaintext
	}
	switch row.Cause {
	case "unknown-setting", "setting-not-allowed", "startup-parameter", "role-setting":
		return Usage
	case string(ClientCertificate):
		return TLS
	}
	return Database
}

// loginFixes have what to type, by the cause of the row; where a sentence is enough, the row's is taken. words are
// the server's.
var loginFixes = map[string]func(l LoginFacts, words string, d *Diagnosis){
	"token-too-long": func(_ LoginFacts, _ string, d *Diagnosis) {
		d.Fix = []string{"# in the DSN, for the server itself instead of its PgBouncer:", "port=5432"}
	},
	"clock":        func(_ LoginFacts, _ string, d *Diagnosis) { d.Fix = SetClock() },
	"wrong-scope":  func(_ LoginFacts, words string, d *Diagnosis) { d.Fix = rightScope(words) },
	"token-format": func(_ LoginFacts, _ string, d *Diagnosis) { d.Fix = wrongScope() },
	"wrong-tenant": LoginFacts.otherTenant,
	"oauth-validator": func(_ LoginFacts, _ string, d *Diagnosis) {
		d.Fix = append([]string{"# pg_hba.conf says which validator, scope and map it takes:",
			"select * from pg_hba_file_rules where auth_method = 'oauth';"}, wrongScope()...)
	},
	"plaintext":   func(_ LoginFacts, _ string, d *Diagnosis) { d.Fix = []string{"# in the DSN:", "sslmode=verify-full"} },
	"not-allowed": LoginFacts.notAllowed,
	"locked-out": func(_ LoginFacts, _ string, d *Diagnosis) {
		d.Fix = []string{"# stop what keeps failing, wait some minutes, and run this again"}
	},
	"role-of-another-kind":   LoginFacts.otherKind,
	"role-of-another-object": LoginFacts.otherObject,
	"role-without-login": func(l LoginFacts, _ string, d *Diagnosis) {
		d.Fix = []string{statement.AsAdministrator, statement.AllowLogin(l.Role)}
	},
	"role-missing":         LoginFacts.wrongRole,
	"no-such-database":     LoginFacts.noDatabase,
	"no-connect-right":     LoginFacts.noConnect,
	"too-many-connections": LoginFacts.tooMany,
	"unknown-setting":      LoginFacts.setting,
	"startup-parameter":    LoginFacts.setting,
	"login":                LoginFacts.unknown,
}

func (l LoginFacts) otherTenant(_ string, d *Diagnosis) {
	tenant := "az postgres flexible-server show " + ServerFlags(l.Server.Host, "--name") +
		" --query authConfig.tenantId -o tsv"
	login := `az login --tenant "$(` + tenant + `)"`
	if l.Claims.Kind() != token.User {
		login = "export AZURE_TENANT_ID=$(" + tenant + ")"
	}
	d.Meaning = fmt.Sprintf("The server cannot verify the token, which is of the tenant %s: most likely the server is "+
		"in another. A token that is not valid yet, by the server's clock, looks the same.", l.Claims.Text("tid"))
	d.Fix = []string{"# the server's tenant:", tenant, login}
}

func (l LoginFacts) notAllowed(_ string, d *Diagnosis) {
	d.Fix = []string{
		"az postgres flexible-server update " + ServerFlags(l.Server.Host, "--name") + " --microsoft-entra-auth Enabled",
		"az postgres flexible-server firewall-rule list " + ServerFlags(l.Server.Host, "--server-name") + " -o table",
	}
}

func (l LoginFacts) noDatabase(words string, d *Diagnosis) {
	if strings.Contains(words, "no such database") { // which is what PgBouncer says
		d.Meaning = fmt.Sprintf("What answers is a PgBouncer, and it has no database %q.", l.database())
		d.Fix = []string{"# in its pgbouncer.ini, under [databases]; on its console: show databases;"}
		return
	}
	if strings.Contains(words, "server login failed") { // it too, of what it names the database in its own
		return
	}
	if l.Database == "" {
		d.Meaning = fmt.Sprintf("The DSN names no database, so PostgreSQL takes the role's name, and it has no database %q.",
			l.database())
		d.Fix = []string{"# in the DSN, the database's name:", "dbname=…"}
		return
	}
	d.Meaning = fmt.Sprintf("The server takes the token and the role, but has no database %q. Names are case-sensitive.",
		l.database())
	d.Fix = []string{"az postgres flexible-server db list " + ServerFlags(l.Server.Host, "--server-name") +
		` --query "[].name" -o tsv`, statement.CreateDatabase(l.database())}
	d.Remedy = &Remedy{Database: l.database()}
}

func (l LoginFacts) noConnect(_ string, d *Diagnosis) {
	d.Meaning = fmt.Sprintf("The server takes the token and the role, but %q has no right to connect to the database %q.",
		l.Role, l.database())
	d.Fix = []string{"-- as the owner of the database:", statement.GrantConnect(l.Role, l.database())}
	d.Remedy = &Remedy{Connect: &Connect{l.Role, l.database()}}
}

func (l LoginFacts) tooMany(words string, d *Diagnosis) {
	if strings.Contains(words, "connections allowed") || strings.Contains(words, "client_conn") {
		d.Fix = []string{"# in its pgbouncer.ini: max_client_conn; and a smaller pool_max_conns in the DSN of each instance"}
		return
	}
	d.Fix = []string{"select usename, state, count(*) from pg_stat_activity group by 1, 2 order by 3 desc;",
		"# and a smaller pool_max_conns in the DSN of each instance"}
}

// settingName is where PostgreSQL and PgBouncer name a setting.
var settingName = lazyregexp.New(`(?:parameter(?: in options)?:? "?)([A-Za-z_][\w.-]*)`)

func (l LoginFacts) setting(words string, d *Diagnosis) {
	found := settingName.FindStringSubmatch(words)
	if found == nil {
		return
	}
	name := found[1]
	d.Meaning = fmt.Sprintf("%s The setting is %s.", d.Meaning, name)
	if d.Cause == "unknown-setting" {
		d.Fix = []string{"# take " + name + "= out of the DSN, the service file and PGOPTIONS"}
		return
	}
	d.Fix = []string{"# take " + name + "= out of the DSN, and give it to the role:",
		"alter role " + statement.Identifier(l.Role) + " set " + statement.Identifier(name) + " = '…';",
		"# or, in pgbouncer.ini, have it dropped:", "ignore_startup_parameters = " + name}
}

func (l LoginFacts) unknown(words string, d *Diagnosis) {
	if d.Status != Role {
		d.Meaning = "The server does not let the connection in, for a reason of its own: its words are above."
		d.Fix = []string{"# the server's log says more:",
			"az postgres flexible-server server-logs list " + ServerFlags(l.Server.Host, "--server-name")}
		return
	}
	d.Meaning = "The server refused the login in words that are not known here: they are above. Most often it is the " +
		"role: missing, or another principal's."
	d.Fix = []string{statement.AsAdministrator, statement.ListPrincipals(l.Role)}
}

var quotedResource = lazyregexp.New(`"(https://[^"\s]+?)/?"`)

// rightScope is the scope that the server's message asks for.
func rightScope(message string) []string {
	if resource := quotedResource.FindStringSubmatch(message); resource != nil {
		scope := resource[1] + "/.default"
		return []string{fmt.Sprintf("# in the program: aadpool.WithScope(%q)", scope),
			"aadpool check --scope " + shell.Quote(scope)}
	}
	return wrongScope()
}

// OfSilence is for a server that has taken a connection and does not answer in time.
func OfSilence(s Server) *Diagnosis {
	return &Diagnosis{Cause: Login, Meaning: "The server took the connection but did not answer in time.",
		Fix: []string{
			"az postgres flexible-server show " + ServerFlags(s.Host, "--name") + " --query state -o tsv",
			"# or allow more time: --timeout 2m",
		}, Status: Database}
}

// OfLongToken is for a server that closes the connection at a token of so many bytes, and answers a short password.
func OfLongToken(s Server, size int) *Diagnosis {
	return &Diagnosis{Cause: OldServer,
		Meaning: fmt.Sprintf("The server answers a short password, and closes the connection at the token of %d bytes "+
			"without a word: it is a PostgreSQL before version 14, which takes none so long, or a proxy with a bound of its "+
			"own.", size),
		Fix:    []string{"az postgres flexible-server upgrade " + ServerFlags(s.Host, "--name") + " --version 17"},
		Status: Token}
}

// OfBrokenLogin is for a connection that broke without a word of the server's.
func OfBrokenLogin() *Diagnosis {
	return &Diagnosis{Cause: Login,
		Meaning: "The connection broke during the login: a firewall or proxy between here and the server, or the server " +
			"itself, has ended it.",
		Fix: []string{"# try again, and without the proxy"}, Status: Database}
}

// OfQuery is for a query that failed after the login.
func OfQuery() *Diagnosis {
	return &Diagnosis{Cause: Query, Meaning: "The login succeeded, but the first query failed.",
		Fix: []string{"# with a PgBouncer in between, check the server itself: port=5432"}, Status: Database}
}
