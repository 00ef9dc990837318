package check_test

import (
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/aadpooltest"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/commandtest"
	diag "github.com/aadpool/aadpool/cmd/aadpool/internal/diagnosis"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/invocation"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/roles"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/statement"
	"github.com/aadpool/aadpool/internal/azuretest"
)

// asked is o where a person watches who gives that answer.
func asked(t *testing.T, o invocation.System, answer string) invocation.System {
	o = commandtest.OnTerminal(t, o, "200")
	t.Setenv("NO_COLOR", "1")
	o.Answers = strings.NewReader(answer)
	return o
}

func TestFix(t *testing.T) {
	x := commandtest.NewTenant(t, "mend", "")
	// The service is a member of a group whose role is an administrator's.
	service := x.Register(aadpooltest.Principal{Name: "mend-api", Groups: []string{"mend-admins"}})
	x.Register(aadpooltest.Principal{Name: "mend-other@contoso.example", Kind: aadpooltest.User})
	_, err := x.Connect(t, x.Admin.Name, roles.PrincipalsDatabase).Exec(t.Context(),
		"select pgaadauth_create_principal('mend-admins', true, false)")
	require.NoError(t, err)
	x.Superuser(t,
		"revoke connect on database "+statement.Identifier(x.Database)+" from public",
		"grant connect on database "+statement.Identifier(x.Database)+` to "mend-admins" with grant option`)
	asService := append([]string{"--credential=environment"}, "--fix")
	commandtest.Setenv(t, x.ClientSecretEnv(service))
	apiDSN := x.DSNOf("mend-api", x.Database)

	for _, row := range []struct {
		name   string
		args   []string
		answer string
		exit   diag.Status
		says   []string
		silent string
	}{
		{"a role that is missing, with nobody to make it", append(asService, apiDSN), "y\n", diag.Role,
			[]string{"– fix", "not from here: this identity has no other role: --fix-as names", "Cause: role-missing",
				"To fix:"}, "Run it?"},
		{"as somebody who may not log in", append(asService, apiDSN, "--fix-as=mend-other@contoso.example"), "y\n", diag.Role,
			[]string{`not from here: "mend-other@contoso.example" cannot log in: FATAL`, "Cause: role-missing"}, "Run it?"},
		{"a no", append(asService, apiDSN, "--fix-as=mend-admins"), "n\n", diag.Role,
			[]string{"Run it? [y/N]", "– fix", "not done", "Cause: role-missing"}, "✓ fix"},
		{"no answer", append(asService, apiDSN, "--fix-as=mend-admins"), "", diag.Role,
			[]string{"Run it? [y/N]", "not done"}, "✓ fix"},
		{"a role, and then its right to connect", append(asService, apiDSN, "--fix-as=mend-admins", "--yes"), "", diag.OK,
			[]string{`✓ fix as "mend-admins": select * from pgaadauth_create_principal_with_oid('mend-api', '` +
				service.ObjectID + `', 'service', false, false);`,
				"✗ login FATAL", `✓ fix as "mend-admins": grant connect on database "mend orders" to "mend-api";`, "All is well."},
			"Run it?"},
		{"nothing to fix", append(asService, apiDSN), "", diag.OK, []string{"All is well."}, "fix as"},
		{"a database, by who may make none", append(asService, "--fix-database=mend nowhere",
			x.DSNOf("mend-api", "mend nowhere")), "y\n", diag.Database,
			[]string{`not from here: "mend-api" may make no databases`, "Cause: no-such-database"}, "Run it?"},
		{"a database that no flag names", []string{"--credential=cli", "--fix", "--yes", x.DSNOf(x.Admin.Name,
			"mend nwe")}, "",
			diag.Database,
			[]string{`not from here: a database is made only where --fix-database names it, as it may be mistyped: "mend nwe"`,
				"Cause: no-such-database"}, "✓ fix"},
		{"a database of which the flag says another", []string{"--credential=cli", "--fix", "--yes",
			"--fix-database=mend new", x.DSNOf(x.Admin.Name, "mend nwe")}, "",
			diag.Database, []string{"not from here: a database is made only where", "Cause: no-such-database"}, "✓ fix"},
		{"no database", []string{"--credential=cli", "--fix", "--yes",
			strings.Replace(x.DSNOf(x.Admin.Name, ""), "/?", "?", 1)}, "", diag.Database,
			[]string{"The DSN names no database, so PostgreSQL takes the role's name, and it has no database " +
				"\"mend-admin@contoso.example\".", "dbname=…"}, "✓ fix"},
		{"a database", []string{"--credential=cli", "--fix", "--fix-database=mend new", x.DSNOf(x.Admin.Name, "mend new")},
			"yes\n", diag.OK,
			[]string{`This fixes it, as "mend-admin@contoso.example" in the database "postgres":` +
				"\n  create database \"mend new\";\nRun it? [y/N] ✓ fix", "All is well."}, "To fix:"},
		{"a mistyped role, with nobody to ask", []string{"--credential=cli", "--fix", "--yes",
			x.DSNOf("mend-other@contoso.example", "postgres")}, "", diag.Role,
			[]string{"Cause: role-of-another-principal",
				`select * from pgaadauth_create_principal('mend-other@contoso.example', false, false);`}, " fix "},
		{"a fault that no SQL fixes", []string{"--credential=cli", "--fix", "--scope=https://contoso.example/.default",
			x.DSNOf(x.Admin.Name, "postgres")}, "y\n",
			diag.Token, []string{"Cause: wrong-scope"}, " fix "},
	} {
		t.Run(row.name, func(t *testing.T) {
			got := commandtest.Run(t, asked(t, x.System(), row.answer), append([]string{"check"}, row.args...)...)
			text := commandtest.WithoutTimes(got.Stdout)
			require.Equal(t, row.exit, got.Status, text+got.Stderr)
			for _, part := range row.says {
				assert.Contains(t, text, part)
			}
			if row.silent != "" {
				assert.NotContains(t, text, row.silent)
			}
		})
	}
	x.Superuser(t, `drop database "mend new"`)
	var made int
	require.NoError(t, x.Connect(t, x.Admin.Name, roles.PrincipalsDatabase).QueryRow(t.Context(), `select (select count(*) from pg_roles where rolname = 'mend-other@contoso.example') +
		(select count(*) from pg_database where datname in ('', 'mend nwe', 'mend-admin@contoso.example'))`).Scan(&made))
	assert.Zero(t, made, "nothing that is mistyped has been made")
}

// PostgreSQL only warns where it grants nothing: "no privileges were granted".
func TestFixThatWouldDoNothingIsNotDone(t *testing.T) {
	x := commandtest.NewTenant(t, "mendnot", "mendnot-owner")
	x.Superuser(t, "revoke connect on database "+statement.Identifier(x.Database)+" from public")
	got := commandtest.Run(t, x.System(), "check", "--credential=cli", "--fix", "--yes", x.DSNOf(x.Admin.Name, x.Database))
	text := commandtest.WithoutTimes(got.Stdout)
	assert.Equal(t, diag.Database, got.Status, text)
	assert.Contains(t, text,
		`– fix not from here: "mendnot-admin@contoso.example" may not give the right to connect to the database "mendnot `+
			`orders"`)
	assert.NotContains(t, text, "✓ fix")
	assert.Contains(t, text, "Cause: no-connect-right")

	// Nor is it taken for done where the right to give it is lost after the rehearsal.
	fix := roles.FixOf(&diag.Remedy{Connect: &diag.Connect{Role: x.Admin.Name, Database: x.Database}}, "")
	assert.EqualError(t, fix.Do(t.Context(), x.Connect(t, x.Admin.Name, roles.PrincipalsDatabase)),
		"PostgreSQL granted nothing")
}

// What the token does not say may be mistyped in the DSN: a person looks at it before a role of that name is made.
func TestFixOfARoleThatTheTokenDoesNotName(t *testing.T) {
	for _, row := range []struct {
		name   string
		args   []string
		answer io.Reader
		says   string
	}{
		{"nobody looks", []string{"--yes"}, nil, `– fix not from here: the token does not say whose it is, so the role's ` +
			`name, "id-order", may be mistyped: leave out --yes to look at it, or make the role by aadpool role with ` +
			`--object-id=` + namelessID + ` --kind=service-principal`},
		{"somebody looks", nil, strings.NewReader("y\n"), `– fix not from here: "admins" cannot log in: `},
	} {
		t.Run(row.name, func(t *testing.T) {
			a := commandtest.New(t)
			a.AddProgram(t, "az", fmt.Sprintf(`echo '{"accessToken": %q, "expires_on": %d}'`,
				azuretest.JWT(`{"idtyp":"app","oid":"`+namelessID+`","aud":"`+aadpooltest.DefaultAudience+`"}`),
				time.Now().Add(time.Hour).Unix()))
			a.Server.SetFault(aadpooltest.RefuseLogins("28P01", `password authentication failed for user "id-order"`))
			o := a.System()
			o.Answers = row.answer
			got := commandtest.Run(t, o, append([]string{"check", "--credential=cli", "--fix", "--fix-as=admins",
				a.Server.DSN("id-order")}, row.args...)...)
			assert.Equal(t, diag.Role, got.Status, got.Stdout+got.Stderr)
			assert.Contains(t, commandtest.WithoutTimes(got.Stdout), row.says)
			assert.NotContains(t, got.Stdout, "✓ fix")
		})
	}
}

const namelessID = "99999999-2222-3333-4444-555555555555"

func TestFixForAProgram(t *testing.T) {
	x := commandtest.NewTenant(t, "mendjson", "")
	t.Cleanup(func() { x.Superuser(t, `drop database if exists "mendjson new"`) })
	got := commandtest.Run(t, x.System(), "check", "--credential=cli", "--json", "--fix", "--yes",
		"--fix-database=mendjson new", x.DSNOf(x.Admin.Name, "mendjson new"))
	r := commandtest.ParseResult(t, got.Stdout)
	assert.True(t, r.OK, got.Stdout)
	assert.Nil(t, r.Failure)
	var outcomes []string
	for _, s := range r.Steps {
		if s.Step == "login" || s.Step == "fix" {
			outcomes = append(outcomes, s.Step+" "+string(s.Outcome))
		}
	}
	assert.Equal(t, []string{"login failed", "fix ok", "login ok"}, outcomes)
}

func TestFixAsksNobodyWhoIsNotThere(t *testing.T) {
	commandtest.ClearEnvironment(t)
	for _, row := range []struct {
		name   string
		args   []string
		answer io.Reader
		want   string
	}{
		{"no terminal", []string{"--fix"}, nil, "--fix asks on a terminal"},
		{"JSON", []string{"--fix", "--json"}, strings.NewReader("y\n"), "give --yes too"},
		{"--yes alone", []string{"--yes"}, nil, "--yes, --fix-as and --fix-database need --fix"},
		{"--fix-as alone", []string{"--fix-as=admins"}, nil, "--yes, --fix-as and --fix-database need --fix"},
		{"--fix-database alone", []string{"--fix-database=orders"}, nil, "--yes, --fix-as and --fix-database need --fix"},
	} {
		t.Run(row.name, func(t *testing.T) {
			got := commandtest.Run(t, invocation.System{Answers: row.answer},
				append([]string{"check", "postgres://a@x.example/d"}, row.args...)...)
			assert.Equal(t, diag.Usage, got.Status)
			assert.Contains(t, got.Stderr, row.want)
			assert.Empty(t, got.Stdout)
		})
	}
}
