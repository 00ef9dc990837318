package dsn

import (
	"crypto/tls"
	"errors"

	"github.com/jackc/pgx/v5"
)

// What the errors of [Prepare] are, by errors.Is.
var (
	ErrPlaintext = errors.New("aadpool: refusing to send an access token in the clear")
	ErrAuth      = errors.New("the DSN rules out each way in which a token logs in")
	ErrScopes    = errors.New("the hosts take tokens of different scopes")
)

// A fault is an error of one of these kinds.
type fault struct {
	kind error
	text string
}

func (f fault) Error() string        { return f.text }
func (f fault) Is(target error) bool { return target == f.kind }

// Prepare makes config ready for a token, and returns the scope of that: scope, or the one that all its hosts take if
// that is empty. It takes out the parameters that are not for the server, does what some of them say, refuses those of
// other programs, and secures the transport as config's DSN asks. t is what has been read of that; if it is nil, the
// DSN is read where config does not tell.
func Prepare(config *pgx.ConnConfig, t *Target, scope string) (string, error) {
	if err := takeOut(&config.Config); err != nil {
		return "", err
	}
	if err := checkAuth(&config.Config); err != nil {
		return "", err
	}
	if err := t.protect(config); err != nil {
		return "", err
	}
	if scope != "" {
		return scope, nil
	}
	return scopeOf(&config.Config)
}

// protect applies the policy of config's DSN, which t has if it is not nil.
func (t *Target) protect(config *pgx.ConnConfig) error {
	if all(&config.Config, func(_ string, c *tls.Config) bool { return isVerified(c) }) {
		return nil // as at each connect, once a pool has been configured
	}
	var policy tlsPolicy
	if t != nil {
		policy = t.policy
	} else {
		policy = policyOf(config.ConnString())
	}
	if policy.peer != "" && some(&config.Config, func(host string, _ *tls.Config) bool { return isUnixSocket(host) }) {
		config.DialFunc = requirePeer(config.DialFunc, policy.peer) // whatever the caller has set
	}
	return secure(&config.Config, policy)
}
