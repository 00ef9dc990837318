package dsn

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/aadpool/aadpool/internal/lazyregexp"
	"github.com/aadpool/aadpool/internal/spelling"
)

// Own are the names of aadpool's own parameters, which the driver and the command take.
var Own = []string{"credential", "client_id", "tenant_id", "login_hint", "oidc_token_file", "client_certificate",
	"token_timeout", "scope", "user_from_token"}

// An index finds parameters by their names.
type index struct {
	all        []parameter
	byName     map[string]parameter // in lower case
	bySqueezed map[string]parameter // in lower case, without what parts words
	libpqNames []string             // for somebody who has misspelled one, with our own
}

// indexed is made when it is first asked: a program that prints a token reads no DSN.
var indexed = sync.OnceValue(func() index {
	k := index{parameters, map[string]parameter{}, map[string]parameter{}, nil}
	for _, p := range others {
		k.all = append(k.all, parameter{name: p.name, whose: p.whose, treated: p.treated, instead: p.instead})
	}
	for _, p := range k.all {
		k.byName[strings.ToLower(p.name)] = p
		if _, ok := k.bySqueezed[squeeze(p.name)]; !ok {
			k.bySqueezed[squeeze(p.name)] = p
		}
		if p.whose == libpq || p.whose == ofAadpool || p.whose == ofPgx {
			k.libpqNames = append(k.libpqNames, p.name)
		}
	}
	return k
})

// betweenWords takes out what parts the words of a name.
var betweenWords = strings.NewReplacer("_", "", "-", "", " ", "")

func squeeze(name string) string { return strings.ToLower(betweenWords.Replace(name)) }

// variableOf is the environment's name for a parameter of libpq's.
func variableOf(name string) string { return indexed().byName[name].variable }

// looksLikeSetting is what the name of a setting of PostgreSQL's looks like; one with a dot is an extension's, or the
// program's own.
var (
	looksLikeSetting = lazyregexp.New(`^([a-z_][a-z0-9_]*|[A-Z_][A-Z0-9_]*)$`)
	mixedCase        = []string{"datestyle", "intervalstyle", "timezone", "application_name", "client_encoding"}
)

// lookUp finds what is known of a name, in another case or with other signs between its words, too.
func lookUp(name string) (parameter, bool) {
	lower := strings.ToLower(name)
	if strings.Contains(name, ".") {
		return parameter{}, false
	}
	if strings.HasPrefix(lower, "x-") {
		return indexed().byName["x-…"], true
	}
	p, ok := indexed().byName[lower]
	if !ok && !looksLikeSetting.MatchString(name) {
		p, ok = indexed().bySqueezed[squeeze(name)]
	}
	return p, ok
}

// judged is what becomes of the parameters that pgx has not understood.
type judged struct {
	notes   []string
	dropped []string // names that the server is not to get
	faults  []error
	secrets []error
}

// judge judges them, in the order of their names.
func judge(params map[string]string) judged {
	var j judged
	for _, name := range slices.Sorted(maps.Keys(params)) {
		p, known := lookUp(name)
		if !known {
			if fault := unknownFault(name); fault != "" {
				j.faults = append(j.faults, errors.New(fault))
			}
			continue
		}
		treated, why := p.treat(name, params[name])
		switch treated {
		case secret:
			j.secrets = append(j.secrets, secretError(p.name, why))
		case refused:
			j.faults = append(j.faults, fmt.Errorf("%s= is %s's: %s", p.name, p.whose, why))
		case ignored:
			j.notes = append(j.notes, fmt.Sprintf("%s= is %s's and is left out: %s", p.name, p.whose, why))
			j.dropped = append(j.dropped, name)
		case applied:
			j.dropped = append(j.dropped, name)
		}
	}
	return j
}

// treat tells what becomes of a value, and why.
func (p parameter) treat(name, value string) (treatment, string) {
	if why, ok := p.values[value]; ok {
		return ignored, why
	}
	switch {
	case (p.treated == passed || p.whose == ofAadpool) && name != p.name && !slices.Contains(mixedCase, p.name):
		return refused, "write it so, in lower case"
	case p.name == "requirepeer" && runtime.GOOS != "linux":
		return refused, p.instead
	}
	return p.treated, p.instead
}

func secretError(what, place string) error {
	return fmt.Errorf("the DSN holds %s, and DSNs end up in logs, process lists and configuration: %s", what, place)
}

// err is for parameters that are refused. Where one holds a secret, no other is named: it may be a piece of that.
func (j judged) err() error {
	if j.secrets != nil {
		return join(j.secrets)
	}
	return join(j.faults)
}

// join is errors.Join in one line.
func join(errs []error) error {
	if len(errs) < 2 {
		return errors.Join(errs...)
	}
	return fmt.Errorf("%w; %w", errs[0], join(errs[1:]))
}

// SecretError is for a DSN that has a password in it, in a place that keeps none.
func (t *Target) SecretError() error {
	switch {
	case t.GivesPassword:
		return secretError("a password", passwordPlace)
	case slices.Contains(t.given.keys, "sslpassword"):
		return secretError("sslpassword", "leave the key without a passphrase, in a file that nobody else can read")
	}
	return nil
}

// PoolError is for a DSN that has parameters of pgxpool's where another pool is used.
func (t *Target) PoolError() error {
	params := map[string]string{}
	for _, name := range t.Pool {
		params[name] = ""
	}
	return judge(params).err()
}

// plainName is one that can be shown: no piece of a password that has been torn apart.
var plainName = lazyregexp.New(`^[A-Za-z][A-Za-z_]{0,39}$`)

// unknownFault is what is wrong with a name that is not known here; empty for what may be a setting.
func unknownFault(name string) string {
	shown := "a parameter of the DSN"
	if plainName.MatchString(name) {
		shown = name + "="
	}
	lower := strings.ToLower(name)
	if strings.Contains(name, ".") || slices.Contains(mixedCase, lower) {
		return ""
	}
	if meant := nearest(name); meant != "" {
		return fmt.Sprintf("%s is no parameter: did you mean %s=?", shown, meant)
	}
	if looksLikeSetting.MatchString(name) {
		return ""
	}
	return shown + " is no parameter of libpq's, pgx's or aadpool's, and no setting of PostgreSQL's is written like " +
		"this: it may be another driver's, leave it out"
}

// nearest is the name of libpq's, pgx's or our own that somebody has misspelled. What looks like a setting may be one,
// unless it differs in no more than what a slip of the fingers makes.
func nearest(name string) string {
	if p, ok := indexed().bySqueezed[squeeze(name)]; ok && slices.Contains(indexed().libpqNames, p.name) {
		return p.name
	}
	meant := spelling.Nearest(name, indexed().libpqNames)
	if meant == "" || !looksLikeSetting.MatchString(name) {
		return meant
	}
	if longer := len(name) - len(meant); name[0] != meant[0] || longer < -2 || longer > 2 {
		return ""
	}
	return meant
}

// isForServer reports whether the server is to get a parameter as it is. It runs at each connect, and does not look for
// misspellings.
func isForServer(name, value string) bool {
	p, known := lookUp(name)
	if !known {
		return true
	}
	treated, _ := p.treat(name, value)
	return treated == passed
}

// takeOut does not change the map in place: stdlib passes a shallow copy of a config.
func takeOut(config *pgconn.Config) error {
	forServer := true
	for name, value := range config.RuntimeParams {
		forServer = forServer && isForServer(name, value)
	}
	if forServer {
		return nil
	}
	j := judge(config.RuntimeParams)
	if err := j.err(); err != nil || len(j.dropped) == 0 {
		return err
	}
	given := config.RuntimeParams
	config.RuntimeParams = maps.Clone(given)
	for _, name := range j.dropped {
		delete(config.RuntimeParams, name)
	}
	if name, ok := given["fallback_application_name"]; ok && given["application_name"] == "" {
		config.RuntimeParams["application_name"] = name
	}
	if user, ok := given["requirepeer"]; ok && user != "" {
		config.DialFunc = requirePeer(config.DialFunc, user)
	}
	return nil
}

// variableNotes tell of libpq's variables that say something else than what is done here.
func variableNotes() (notes []string) {
	for _, p := range indexed().all {
		value := os.Getenv(p.variable)
		if p.variable == "" || value == "" || (p.treated != refused && p.treated != applied) {
			continue
		}
		if treated, _ := p.treat(p.name, value); treated == ignored {
			continue
		}
		why := p.instead
		if p.treated == applied {
			why = "write " + p.name + "= into the DSN, where it is"
		}
		notes = append(notes, fmt.Sprintf("%s is set in the environment, and is not read here: %s", p.variable, why))
	}
	return notes
}
