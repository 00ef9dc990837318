package aadpoolsql

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/aadpool/aadpool/internal/credential"
	"github.com/aadpool/aadpool/internal/dsn"
	"github.com/aadpool/aadpool/internal/spelling"
)

// parameters are what a DSN says that is not pgx's. The zero value is a DSN that says nothing of the kind.
type parameters struct {
	credential, clientID, tenantID, scope string
	userFromToken                         bool
}

// own are the names of the parameters.
var own = []string{"credential", "client_id", "tenant_id", "scope", "user_from_token"}

// secretNames are parameters that would hold a secret, and where it belongs.
var secretNames = map[string]string{
	"password": passwordPlace, "passwd": passwordPlace, "pwd": passwordPlace, "pass": passwordPlace,
	"token": passwordPlace, "access_token": passwordPlace, "accesstoken": passwordPlace,
	"client_secret": secretPlace, "clientsecret": secretPlace, "azure_client_secret": secretPlace,
	"secret":                      secretPlace,
	"client_certificate_password": certificatePlace, "certificate_password": certificatePlace,
}

const (
	passwordPlace = "leave it out, for the login is with an access token that the credential gets"
	secretPlace   = "put it into the environment variable AZURE_CLIENT_SECRET, and credential=environment " +
		"into the DSN"
	certificatePlace = "put it into the environment variable AZURE_CLIENT_CERTIFICATE_PASSWORD"
)

// otherNames are what other drivers call the parameters.
var otherNames = map[string]string{"fedauth": "credential", "auth": "credential", "authenticator": "credential",
	"identity": "credential", "tenant": "tenant_id", "resource": "scope", "audience": "scope"}

// parse takes the parameters out of what pgx has made of a DSN: it keeps what it does not know for the server, as a
// setting of the session. No error repeats a value.
func parse(text string) (*pgxpool.Config, parameters, error) {
	config, err := dsn.Parse(text)
	if err != nil {
		return nil, parameters{}, err
	}
	if err := refusePassword(text); err != nil {
		return nil, parameters{}, err
	}
	settings := config.ConnConfig.RuntimeParams
	if err := check(settingNames(text)); err != nil {
		return nil, parameters{}, err
	}
	p, err := read(settings)
	for _, name := range own {
		delete(settings, name)
	}
	return config, p, err
}

// refusePassword looks for a password that the DSN itself holds: one of PGPASSWORD or the password file is not used,
// and may be there for other programs.
func refusePassword(text string) error {
	held := false
	if u, err := url.Parse(text); err == nil && (u.Scheme == "postgres" || u.Scheme == "postgresql") {
		password, _ := u.User.Password()
		held = password != "" || u.Query().Get("password") != ""
	} else {
		// Of two passwords pgx takes the last.
		const other = "another"
		config, err := pgx.ParseConfig("password=" + other + " " + text)
		held = err != nil || config.Password != other
	}
	if held {
		return secretError("a password", passwordPlace)
	}
	return nil
}

func secretError(what, place string) error {
	return fmt.Errorf("the DSN holds %s, and DSNs end up in logs, process lists and configuration: %s", what, place)
}

// settingNames are the names of all that pgx has not understood, sorted.
func settingNames(text string) (names []string) {
	config, err := pgx.ParseConfig(text) // which leaves pgxpool's where they are
	if err != nil {
		return nil
	}
	for name := range config.RuntimeParams {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// check returns an error for each name that is a secret's, and else for each that is unknown.
func check(names []string) error {
	var secrets, faults []error
	for _, name := range names {
		if place, ok := secretNames[strings.ToLower(name)]; ok {
			secrets = append(secrets, secretError(strings.ToLower(name), place))
		} else if fault := fault(name); fault != "" {
			faults = append(faults, errors.New(fault))
		}
	}
	if secrets != nil { // the other names may be pieces of it
		faults = secrets
	}
	return join(faults)
}

// join is errors.Join in one line.
func join(errs []error) error {
	if len(errs) < 2 {
		return errors.Join(errs...)
	}
	return fmt.Errorf("%w; %w", errs[0], join(errs[1:]))
}

// plainName is one that can be shown: no piece of a password that has been torn apart.
var plainName = regexp.MustCompile(`^[A-Za-z][A-Za-z_]{0,39}$`)

// fault is what is wrong with the name of a parameter.
func fault(name string) string {
	switch {
	case slices.Contains(own, name), isSetting(name):
		return ""
	case strings.HasPrefix(name, "pool_"):
		return poolFault(name)
	}
	shown := "a parameter of the DSN"
	if plainName.MatchString(name) {
		shown = name + "="
	}
	meant, ok := otherNames[strings.ToLower(name)]
	if !ok {
		meant = spelling.Nearest(name, slices.Concat(own, keywords, lowerSettings))
	}
	if meant != "" {
		return fmt.Sprintf("%s is no parameter: did you mean %s=?", shown, meant)
	}
	return fmt.Sprintf("%s is no parameter: there are %s, those of pgx, and PostgreSQL's settings "+
		"(any other by options=-c name=value)", shown, strings.Join(own, ", "))
}

// poolCalls are what database/sql has for pgxpool's parameters.
var poolCalls = map[string]string{"pool_max_conns": "SetMaxOpenConns", "pool_min_idle_conns": "SetMaxIdleConns",
	"pool_min_conns": "SetMaxIdleConns", "pool_max_conn_idle_time": "SetConnMaxIdleTime",
	"pool_max_conn_lifetime": "SetConnMaxLifetime"}

func poolFault(name string) string {
	text := "the parameters pool_… are pgxpool's, and database/sql has a pool of its own"
	if call := poolCalls[name]; call != "" {
		text += ": for " + name + " there is DB." + call
	}
	return text
}

var (
	clientID = regexp.MustCompile(`^(?i)[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)
	tenantID = regexp.MustCompile(`^[A-Za-z0-9.-]+$`) // or its domain
)

// read returns the parameters among the settings.
func read(settings map[string]string) (p parameters, err error) {
	p = parameters{credential: settings["credential"], clientID: settings["client_id"],
		tenantID: settings["tenant_id"], scope: settings["scope"]}
	var faults []error
	given := func(name string) bool { _, ok := settings[name]; return ok }
	if given("credential") {
		if fault := credential.CheckName(p.credential); fault != "" {
			faults = append(faults, errors.New("credential=: "+fault))
		}
	}
	if given("client_id") && !clientID.MatchString(p.clientID) {
		faults = append(faults, errors.New("client_id= must be a UUID, the client id (application id) of the "+
			"identity, which is not its object id"))
	}
	if given("tenant_id") && !tenantID.MatchString(p.tenantID) {
		faults = append(faults, errors.New("tenant_id= must be a tenant's UUID or domain"))
	}
	if given("user_from_token") {
		if p.userFromToken, err = strconv.ParseBool(settings["user_from_token"]); err != nil {
			faults = append(faults, errors.New("user_from_token= must be true or false"))
		}
	}
	return p, join(faults)
}
