package dsn

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// FuzzReadAsPgx holds Read and pgx together: what pgx takes is taken, with the same user, database and hosts, but for
// what Read refuses by its meaning; and what pgx refuses is refused.
func FuzzReadAsPgx(f *testing.F) {
	for _, row := range tlsRows(f) {
		f.Add(row.dsn)
	}
	for _, dsn := range []string{
		"postgres://u@a:5432,b/d", "postgres://u@[::1],[::2]/d", "postgres://u@h/d\n", "postgres://u:^{}|`\\é@h/d",
		"host=h user='a b' dbname=d\\", "host=h password= user=", "user=u host=h dbname= ", "postgres://u@h/d?",
		"postgres://u@h?a=b&",
		"postgres://u@h/d?user=v&host=g&port=1&dbname=e", "postgres://a?b@h/d", "host=h service_=x servicefile_=y",
		"host=h options='-c a=b' application_name=\\'", "\ufeffpostgres://u@h/d", "host=h credential=cli user=u",
		"host=h port=1,2",
		"host=h max_protocol_version=3.0", "postgres://u%40x@h/d?sslm%6fde=require", "host = h user = u password = p",
		"sslcert=0",
	} {
		f.Add(dsn)
	}
	clearPGEnvOfFuzzing(f)
	f.Fuzz(func(t *testing.T, text string) {
		if readsAnyFile(text) && !strings.HasPrefix(text, "postgres://u:^") {
			t.Skip()
		}
		dsn := clean(text)
		want, err := pgxpool.ParseConfig(dsn)
		got, gotErr := Read(text)
		if err != nil {
			if gotErr == nil {
				t.Fatalf("pgx refuses it: %v", err)
			}
			return
		}
		checkAltered(t, dsn, &want.ConnConfig.Config)
		if gotErr != nil {
			if strings.Contains(gotErr.Error(), "failed to parse as") {
				t.Fatalf("pgx takes it: %v", gotErr)
			}
			return
		}
		checkSame(t, want, got)
	})
}

func checkSame(t *testing.T, want *pgxpool.Config, got *Target) {
	w, g := want.ConnConfig, got.Config.ConnConfig
	if w.User != g.User || w.Database != g.Database || w.Password != g.Password {
		t.Errorf("the user is %q, and pgx has %q; the database is %q, and pgx has %q", g.User, w.User, g.Database, w.Database)
	}
	if was, is := hostsOf(entries(w)), hostsOf(entries(g)); !slices.Equal(was, is) {
		t.Errorf("the hosts are %q, and pgx has %q", is, was)
	}
	if !got.NamesUser && g.User != OSUser() {
		t.Errorf("%q was named", g.User)
	}
	if !got.GivesPassword && g.Password != "" {
		t.Error("a password was given")
	}
	for name := range maps.Keys(w.RuntimeParams) {
		_, own := got.Own[name]
		if p, known := lookUp(name); g.RuntimeParams[name] != w.RuntimeParams[name] && !own &&
			(!known || p.treated == refused || p.treated == secret) && name != "client_encoding" {
			if _, ignored := p.values[w.RuntimeParams[name]]; !ignored {
				t.Errorf("the server does not get %q", name)
			}
		}
	}
}

// checkAltered has another host take the place of all.
func checkAltered(t *testing.T, dsn string, config *pgconn.Config) {
	altered := parseAltered(dsn, append(withoutTLS, pair{"host", "server.invalid"}, pair{"port", "7"})...)
	if altered == nil {
		t.Fatal("it cannot be altered")
	}
	for _, entry := range entriesOf(altered) {
		if entry.Host != "server.invalid" || entry.Port != 7 {
			t.Errorf("%s:%d is left", entry.Host, entry.Port)
		}
	}
	if altered.Database != config.Database && !strings.HasSuffix(dsn, `\`) {
		t.Errorf("the database has become %q", altered.Database)
	}
}

// FuzzValues has any values for what pgx keeps none of.
func FuzzValues(f *testing.F) {
	for _, value := range []string{"", "/a b/c.pem", "sslcert", "service_", "servicefile", `it's \`, "x=y",
		"sslrootcert__"} {
		f.Add(value, value+"1")
	}
	clearPGEnvOfFuzzing(f)
	f.Fuzz(func(t *testing.T, cert, key string) {
		if strings.ContainsRune(cert+key, 0) {
			t.Skip()
		}
		quote := func(s string) string { return "'" + strings.NewReplacer(`\`, `\\`, "'", `\'`).Replace(s) + "'" }
		values := valuesOf("host=h sslcert=" + quote(cert) + " user=service sslkey=" + quote(key))
		if values["sslcert"] != cert || values["sslkey"] != key {
			t.Errorf("%q and %q were read for %q and %q", values["sslcert"], values["sslkey"], cert, key)
		}
	})
}
