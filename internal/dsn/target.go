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

// A Target is a DSN as it is understood, with the environment and the service file.
type Target struct {
	Config *pgxpool.Config // as pgx reads it, without the parameters that are not for the server
	Policy TLSPolicy
	Own    map[string]string // aadpool's own parameters
	Pool   []string          // the names of pgxpool's parameters that it gives
	Notes  []string          // what its writer may not expect

	NamesUser      bool // somebody has said whom to log in as, and it is not the operating system's user
	GivesPassword  bool // the DSN itself has a password in it, or a place for one
	OnlyProtocol30 bool // max_protocol_version=3.0 is given, and not pgx's default

	given given
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
	t := &Target{Config: config, Own: map[string]string{}, given: givenBy(dsn)}
	t.takeOwn(config.ConnConfig.RuntimeParams)
	if err := checkMeaning(config); err != nil {
		return nil, err
	}
	t.describe(dsn)
	return t, takeOut(&config.ConnConfig.Config)
}

// takeOwn takes out of params what is aadpool's own.
func (t *Target) takeOwn(params map[string]string) {
	for _, name := range Own {
		if value, ok := params[name]; ok {
			t.Own[name] = value
			delete(params, name)
		}
	}
}

func (t *Target) describe(dsn string) {
	config := &t.Config.ConnConfig.Config
	t.Policy = PolicyOf(dsn)
	t.NamesUser, t.GivesPassword = t.given.namesUser(config), t.given.givesPassword()
	t.OnlyProtocol30 = t.given.value("max_protocol_version") == "3.0"
	for _, key := range t.given.keys {
		if strings.HasPrefix(key, "pool_") {
			t.Pool = append(t.Pool, key)
		}
	}
	slices.Sort(t.Pool)
	t.Notes = notesOn(dsn, t.Policy)
}

// Parse is Read for a pool, which gets its credential otherwise.
func Parse(text string) (*pgxpool.Config, error) {
	t, err := Read(text)
	if err != nil {
		return nil, err
	}
	if err := judge(t.Own).err(); err != nil {
		return nil, parsing(err)
	}
	return t.Config, nil
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

// Settings is what a DSN says, with the environment and the service file, that pgx does not keep in a config.
type Settings struct {
	TLS              TLSPolicy
	Lifetime, Jitter bool     // pool_max_conn_lifetime and pool_max_conn_lifetime_jitter are given
	Notes            []string // what its writer may not expect
}

// SettingsOf checks the DSN that config was made from, as Read does, and reads its Settings. The config does not tell,
// and may have been changed since; so the DSN is parsed again.
func SettingsOf(config *pgxpool.Config) (Settings, error) {
	if err := checkMeaning(config); err != nil {
		return Settings{}, err
	}
	dsn := config.ConnString()
	parsed, err := pgx.ParseConfig(dsn)
	if err != nil { // as for a config that was not made from a DSN; what it holds was chosen
		return Settings{Lifetime: true, Jitter: true}, nil
	}
	// pgx leaves pgxpool's parameters where it puts all that it does not know.
	_, lifetime := parsed.RuntimeParams["pool_max_conn_lifetime"]
	_, jitter := parsed.RuntimeParams["pool_max_conn_lifetime_jitter"]
	policy := PolicyOf(dsn)
	return Settings{TLS: policy, Lifetime: lifetime, Jitter: jitter, Notes: notesOn(dsn, policy)}, nil
}

// notesOn tells of what a DSN says and its writer may not expect.
func notesOn(dsn string, policy TLSPolicy) []string {
	var notes []string
	if policy.mode == tlsRequired {
		notes = append(notes, "sslmode=require verifies nobody: whoever answers in the server's place gets the access "+
			"token; write sslmode=verify-full")
	}
	if config, err := pgx.ParseConfig(dsn); err == nil {
		notes = append(notes, judge(config.RuntimeParams).notes...)
	}
	return append(notes, variableNotes()...)
}
