package main

import (
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/aadpooltest"
)

// asked is o where a person watches who gives that answer.
func asked(t *testing.T, o outside, answer string) outside {
	o = onTerminal(t, o, "200")
	t.Setenv("NO_COLOR", "1")
	o.answers = strings.NewReader(answer)
	return o
}

// dsn is that of a role to a database.
func (x tenant) dsn(role, database string) string {
	return strings.Replace(x.server.DSN(role), "/postgres?", "/"+strings.ReplaceAll(database, " ", "%20")+"?", 1)
}

func TestMend(t *testing.T) {
	x := newTenant(t, "mend", "")
	// The service is a member of a group whose role is an administrator's.
	service := x.Register(aadpooltest.Principal{Name: "mend-api", Groups: []string{"mend-admins"}})
	x.Register(aadpooltest.Principal{Name: "mend-other@contoso.example", Kind: aadpooltest.User})
	_, err := x.connect(t, x.admin.Name, principalsDatabase).Exec(t.Context(), "select pgaadauth_create_principal('mend-admins', true, false)")
	require.NoError(t, err)
	superuser(t, x.azure,
		"revoke connect on database "+identifier(x.database)+" from public",
		"grant connect on database "+identifier(x.database)+` to "mend-admins" with grant option`)
	asService := append([]string{"--credential=environment"}, "--mend")
	setenv(t, x.ClientSecretEnv(service))
	apiDSN := x.dsn("mend-api", x.database)

	for _, row := range []struct {
		name   string
		args   []string
		answer string
		exit   exitStatus
		says   []string
		silent string
	}{
		{"a role that is missing, with nobody to make it", append(asService, apiDSN), "y\n", exitRole,
			[]string{"– mend", "not from here: this identity has no other role: --mend-as names", "Cause: role-missing", "To fix:"}, "Run it?"},
		{"as somebody who may not log in", append(asService, apiDSN, "--mend-as=mend-other@contoso.example"), "y\n", exitRole,
			[]string{`not from here: "mend-other@contoso.example" cannot log in: FATAL`, "Cause: role-missing"}, "Run it?"},
		{"a no", append(asService, apiDSN, "--mend-as=mend-admins"), "n\n", exitRole,
			[]string{"Run it? [y/N]", "– mend", "not done", "Cause: role-missing"}, "✓ mend"},
		{"no answer", append(asService, apiDSN, "--mend-as=mend-admins"), "", exitRole,
			[]string{"Run it? [y/N]", "not done"}, "✓ mend"},
		{"a role, and then its right to connect", append(asService, apiDSN, "--mend-as=mend-admins", "--yes"), "", exitOK,
			[]string{`✓ mend as "mend-admins": select * from pgaadauth_create_principal('mend-api', false, false);`,
				"✗ login FATAL", `✓ mend as "mend-admins": grant connect on database "mend orders" to "mend-api";`, "All is well."}, "Run it?"},
		{"nothing to mend", append(asService, apiDSN), "", exitOK, []string{"All is well."}, "mend as"},
		{"a database, by who may make none", append(asService, x.dsn("mend-api", "mend nowhere")), "y\n", exitDatabase,
			[]string{`not from here: "mend-api" may make no databases`, "Cause: no-such-database"}, "Run it?"},
		{"a database", []string{"--credential=cli", "--mend", x.dsn(x.admin.Name, "mend new")}, "yes\n", exitOK,
			[]string{`This mends it, as "mend-admin@contoso.example" in the database "postgres":` + "\n  create database \"mend new\";\nRun it? [y/N] ✓ mend", "All is well."}, "To fix:"},
		{"the role of another principal, which is missing", []string{"--credential=cli", "--mend", x.dsn("mend-other@contoso.example", "postgres")}, "y\n", exitRole,
			[]string{`as "mend-admin@contoso.example": select * from pgaadauth_create_principal('mend-other@contoso.example', false, false);`,
				"Cause: role-of-another-principal", `The role "mend-other@contoso.example" is there now, for the principal of that name.`}, ""},
		{"the role of another principal", []string{"--credential=cli", "--mend", x.dsn("mend-other@contoso.example", "postgres")}, "y\n", exitRole,
			[]string{`not from here: there is the role "mend-other@contoso.example", for the user`}, "Run it?"},
		{"a fault that no SQL mends", []string{"--credential=cli", "--mend", "--scope=https://contoso.example/.default", x.dsn(x.admin.Name, "postgres")}, "y\n",
			exitToken, []string{"Cause: wrong-scope"}, "mend "},
	} {
		t.Run(row.name, func(t *testing.T) {
			got := runCommand(t, asked(t, x.outside(), row.answer), append([]string{"check"}, row.args...)...)
			text := withoutTimes(got.stdout)
			require.Equal(t, row.exit, got.status, text+got.stderr)
			for _, part := range row.says {
				assert.Contains(t, text, part)
			}
			if row.silent != "" {
				assert.NotContains(t, text, row.silent)
			}
		})
	}
	superuser(t, x.azure, `drop database "mend new"`)
}

func TestMendForAProgram(t *testing.T) {
	x := newTenant(t, "mendjson", "")
	t.Cleanup(func() { superuser(t, x.azure, `drop database if exists "mendjson new"`) })
	got := runCommand(t, x.outside(), "check", "--credential=cli", "--json", "--mend", "--yes", x.dsn(x.admin.Name, "mendjson new"))
	r := parseResult(t, got.stdout)
	assert.True(t, r.OK, got.stdout)
	assert.Nil(t, r.Failure)
	var outcomes []string
	for _, s := range r.Steps {
		if s.Step == "login" || s.Step == "mend" {
			outcomes = append(outcomes, s.Step+" "+string(s.Outcome))
		}
	}
	assert.Equal(t, []string{"login failed", "mend ok", "login ok"}, outcomes)
}

func TestMendAsksNobodyWhoIsNotThere(t *testing.T) {
	clearEnvironment(t)
	for _, row := range []struct {
		name   string
		args   []string
		answer io.Reader
		want   string
	}{
		{"no terminal", []string{"--mend"}, nil, "--mend asks on a terminal"},
		{"JSON", []string{"--mend", "--json"}, strings.NewReader("y\n"), "give --yes too"},
		{"--yes alone", []string{"--yes"}, nil, "--yes and --mend-as need --mend"},
		{"--mend-as alone", []string{"--mend-as=admins"}, nil, "--yes and --mend-as need --mend"},
	} {
		t.Run(row.name, func(t *testing.T) {
			got := runCommand(t, outside{answers: row.answer}, append([]string{"check", "postgres://a@x.example/d"}, row.args...)...)
			assert.Equal(t, exitUsage, got.status)
			assert.Contains(t, got.stderr, row.want)
			assert.Empty(t, got.stdout)
		})
	}
}
