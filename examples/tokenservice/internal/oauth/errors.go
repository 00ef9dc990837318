package oauth

import (
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"

	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"
)

// answer is an error with the form and the codes of https://www.rfc-editor.org/rfc/rfc6749#section-5.2.
func answer(status int, e *oidc.Error, description string) error {
	return op.NewStatusError(e.WithDescription("%s", description), status)
}

// Codes that the library does not have. For a server that cannot answer now the standard has one for its other
// endpoint only: https://www.rfc-editor.org/rfc/rfc6749#section-4.1.2.1.
func errTemporarilyUnavailable() *oidc.Error {
	return &oidc.Error{ErrorType: "temporarily_unavailable"}
}
func errUnsupportedResponseType() *oidc.Error {
	return &oidc.Error{ErrorType: "unsupported_response_type"}
}

// https://www.rfc-editor.org/rfc/rfc7009#section-2.2.1
func errUnsupportedTokenType() *oidc.Error { return &oidc.Error{ErrorType: "unsupported_token_type"} }

func writeError(w http.ResponseWriter, r *http.Request, err error) { op.WriteError(w, r, err, nil) }

// invalidClient is the same for every client that cannot be authenticated, whatever the reason.
func (r request) invalidClient() error { return unauthorized(r.header) }

func unauthorized(header http.Header) error {
	header.Set("WWW-Authenticate", `Basic realm="token", charset="UTF-8"`)
	return answer(http.StatusUnauthorized, oidc.ErrInvalidClient(), "the client could not be authenticated")
}

func (r request) tooMany(wait time.Duration) error { return tooMany(r.header, wait) }

func tooMany(header http.Header, wait time.Duration) error {
	retryAfter(header, wait)
	return answer(http.StatusTooManyRequests, errTemporarilyUnavailable(), "too many failed logins; try again later")
}

// busy is for when there are more logins than can be checked.
func (r request) busy() error { return busy(r.header) }

func busy(header http.Header) error {
	retryAfter(header, spread(busyPause))
	return answer(http.StatusServiceUnavailable, errTemporarilyUnavailable(), "too many logins at once; try again later")
}

// unavailable is for when the database is away.
func (r request) unavailable() error {
	retryAfter(r.header, spread(unavailablePause))
	return answer(http.StatusServiceUnavailable, errTemporarilyUnavailable(),
		"the service is not available; try again later")
}

const (
	busyPause        = 2 * time.Second
	unavailablePause = 5 * time.Second
)

// spread makes clients that were refused together not come back together.
func spread(d time.Duration) time.Duration { return d + rand.N(d) }

// retryAfter says when to come back, in whole seconds: https://www.rfc-editor.org/rfc/rfc9110#section-10.2.3.
func retryAfter(header http.Header, d time.Duration) {
	seconds := int64((d + time.Second - 1) / time.Second)
	header.Set("Retry-After", strconv.FormatInt(max(1, seconds), 10))
}
