package aadpool

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/aadpool/aadpool/internal/dsn"
)

// An Option changes how a [Hook], or a pool made by [New] or [NewWithConfig], gets and uses access tokens.
type Option func(*options) error

type options struct {
	scope         string // empty: by the server's name
	userFromToken bool
	logger        *slog.Logger
	tokenTimeout  time.Duration
	observer      Observer
}

// WithScope sets the scope that access tokens are requested for, as "<resource>/.default".
//
// The default follows the server's name, which for a private DNS name or an IP address cannot tell the cloud:
//
//	….postgres.database.usgovcloudapi.net   https://ossrdbms-aad.database.usgovcloudapi.net/.default
//	….postgres.database.chinacloudapi.cn    https://ossrdbms-aad.database.chinacloudapi.cn/.default
//	….postgres.cosmos.azure.com             https://token.postgres.cosmos.azure.com/.default
//	anything else                           https://ossrdbms-aad.database.windows.net/.default
//
// It is an error if scope is not of the form "<resource>/<permission>".
func WithScope(scope string) Option {
	return func(o *options) error {
		resource, permission := scope, ""
		if i := strings.LastIndex(scope, "/"); i > 0 && !strings.HasSuffix(scope[:i], "/") {
			resource, permission = scope[:i], scope[i+1:]
		}
		if resource == "" || permission == "" || strings.ContainsFunc(scope, isSpaceOrControl) {
			return fmt.Errorf("WithScope(%q): a scope looks like %q", scope, dsn.DefaultScope)
		}
		o.scope = scope
		return nil
	}
}

func isSpaceOrControl(r rune) bool { return r <= ' ' || r == 0x7f }

// WithUserFromToken takes the database user from the access token instead of the DSN: a user's UPN, a managed
// identity's name, a service principal's display name. If the token has none of them, connecting fails, and the error
// names the claims that it has. A user-assigned managed identity's token may have none, and no token has the name of a
// group: put user= into the DSN there, without this option.
//
// The default is the DSN's user.
func WithUserFromToken() Option {
	return func(o *options) error {
		o.userFromToken = true
		return nil
	}
}

// WithLogger sets where warnings go: fetches of a token that failed, and logins that the server refused. Fetches that
// succeeded are logged at debug level. No record holds a token.
//
// The default is [slog.Default] at the time that the Hook is made. It is an error if l is nil; to be silent, use
// slog.New(slog.DiscardHandler).
func WithLogger(l *slog.Logger) Option {
	return func(o *options) error {
		if l == nil {
			return errors.New("WithLogger(nil): to be silent, use slog.New(slog.DiscardHandler)")
		}
		o.logger = l
		return nil
	}
}

// WithTokenTimeout sets how long one request to the credential may take. A connect that waits for a token waits no
// longer than that, whether or not the credential heeds its context, and holds a slot of its pool meanwhile. The
// credential's context ends a second earlier, or a fifth of d where that is less.
//
// The default is 30 seconds. It is an error if d is not positive.
func WithTokenTimeout(d time.Duration) Option {
	return func(o *options) error {
		if d <= 0 {
			return fmt.Errorf("WithTokenTimeout(%s): must be positive, such as 30*time.Second", d)
		}
		o.tokenTimeout = d
		return nil
	}
}

func newOptions(opts []Option) (options, error) {
	o := options{logger: slog.Default(), tokenTimeout: defaultTokenTimeout}
	var errs []error
	for _, opt := range opts {
		if opt == nil {
			errs = append(errs, errors.New("an Option is nil"))
			continue
		}
		if err := opt(&o); err != nil {
			errs = append(errs, err)
		}
	}
	return o, errors.Join(errs...)
}
