package dsn

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// A Target is where connections go, and what their DSN says of it with the environment and the service file.
type Target struct {
	Config *pgxpool.Config   // without the parameters that are not for the server
	Own    map[string]string // aadpool's own parameters
	Pool   []string          // the names of pgxpool's parameters that the DSN itself gives
	Notes  []string          // what its writer may not expect

	GivesLifetime  bool // pool_max_conn_lifetime is given
	GivesJitter    bool // pool_max_conn_lifetime_jitter is
	NamesUser      bool // somebody has said whom to log in as, and it is not the operating system's user
	GivesPassword  bool // the DSN itself has a password in it, or a place for one
	OnlyProtocol30 bool // max_protocol_version=3.0 is given, and not pgx's default

	policy tlsPolicy
	given  given
}

// Value is that of sslcert, sslkey, sslrootcert or target_session_attrs, of which pgx keeps none.
func (t *Target) Value(key string) string { return t.given.value(key) }

// Read reads a DSN. Its errors repeat no value of it. It refuses one that is empty where no PGHOST or PGSERVICE is set,
// that pgx takes to mean something else than its writer, that names no host, or that has parameters of other programs.
func Read(text string) (*Target, error) {
	dsn := clean(text)
	if dsn == "" && os.Getenv("PGHOST") == "" && os.Getenv("PGSERVICE") == "" {
		return nil, errEmpty()
	}
	if fault := unlikeAny(dsn); fault != "" {
		return nil, parsing(errors.New(fault))
	}
	config, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		return nil, parsing(failure(err))
	}
	own := takeOwn(config.ConnConfig.RuntimeParams)
	t, err := Of(config)
	if err != nil {
		return nil, err
	}
	t.Own, t.given = own, givenBy(dsn)
	t.NamesUser, t.GivesPassword = t.given.namesUser(&config.ConnConfig.Config), t.given.givesPassword()
	t.OnlyProtocol30 = t.given.value("max_protocol_version") == "3.0"
	for _, key := range t.given.keys {
		if strings.HasPrefix(key, "pool_") {
			t.Pool = append(t.Pool, key)
		}
	}
	slices.Sort(t.Pool)
	return t, takeOut(&config.ConnConfig.Config)
}

// ReadForPool is Read for a pool, which gets its credential otherwise.
func ReadForPool(text string) (*Target, error) {
	t, err := Read(text)
	if err != nil {
		return nil, err
	}
	if err := judge(t.Own).err(); err != nil {
		return nil, parsing(err)
	}
	return t, nil
}

// Of reads the DSN that config was made from, and refuses what Read does. The config does not tell all that it says,
// and may have been changed since; so the DSN is parsed again.
func Of(config *pgxpool.Config) (*Target, error) {
	if err := checkMeaning(config); err != nil {
		return nil, err
	}
	t := &Target{Config: config}
	dsn := config.ConnString()
	parsed, err := pgx.ParseConfig(dsn)
	if err != nil { // as for a config that was not made from a DSN; what it holds was chosen
		t.GivesLifetime, t.GivesJitter = true, true
		return t, nil
	}
	// pgx leaves pgxpool's parameters where it puts all that it does not know.
	_, t.GivesLifetime = parsed.RuntimeParams["pool_max_conn_lifetime"]
	_, t.GivesJitter = parsed.RuntimeParams["pool_max_conn_lifetime_jitter"]
	t.policy = policyOf(dsn)
	if t.policy.mode == tlsRequired {
		t.Notes = append(t.Notes, "sslmode=require verifies nobody: whoever answers in the server's place gets the access "+
			"token; write sslmode=verify-full")
	}
	t.Notes = append(append(t.Notes, judge(parsed.RuntimeParams).notes...), variableNotes()...)
	return t, nil
}

// takeOwn takes out of params what is aadpool's own.
func takeOwn(params map[string]string) map[string]string {
	own := map[string]string{}
	for _, name := range Own {
		if value, ok := params[name]; ok {
			own[name] = value
			delete(params, name)
		}
	}
	return own
}

func parsing(err error) error { return fmt.Errorf("parsing the DSN: %w", err) }

// checkMeaning returns an error if pgx takes the DSN that config was made from to mean something else than its writer.
// What it was taken for may hold a part of a password, and is not shown.
func checkMeaning(config *pgxpool.Config) error {
	if fault := misread(&config.ConnConfig.Config, config.ConnString()); fault != "" {
		return parsing(errors.New(fault))
	}
	if err := judge(config.ConnConfig.RuntimeParams).err(); err != nil {
		return parsing(err)
	}
	if unnamedHost(config.ConnString(), &config.ConnConfig.Config) != "" {
		return parsing(errNoHost)
	}
	return nil
}
