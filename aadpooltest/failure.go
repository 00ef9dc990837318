package aadpooltest

import (
	"net/http"
	"strconv"
	"time"
)

// Failure is a way for token requests to fail: see [Authority.SetFailure]. The zero Failure is none.
type Failure struct {
	// serve answers a request in place of the answer that it would have got.
	serve func(a *Authority, w http.ResponseWriter, r *http.Request, ans answer)
}

// Throttled answers 429 Too Many Requests, with a Retry-After of that many whole seconds:
// https://learn.microsoft.com/entra/identity/managed-identities-azure-resources/how-to-use-vm-token#retry-guidance.
func Throttled(retryAfter time.Duration) Failure {
	return Failure{func(_ *Authority, w http.ResponseWriter, r *http.Request, _ answer) {
		w.Header().Set("Retry-After", strconv.FormatInt(int64(retryAfter/time.Second), 10))
		e := entraError{http.StatusTooManyRequests, "temporarily_unavailable", 90055,
			"The server is terminating this request because it has received too many of them."}
		e.answer(r).writeTo(w)
	}}
}

// ServerError answers with the status, 500 to 599, and Entra's JSON for an internal error.
func ServerError(status int) Failure {
	return Failure{func(_ *Authority, w http.ResponseWriter, r *http.Request, _ answer) {
		e := entraError{status, "temporarily_unavailable", 90033, "A transient error has occurred. Please try again."}
		e.answer(r).writeTo(w)
	}}
}

// OAuthError refuses with the error code of RFC 6749, such as "invalid_client", the AADSTS number and its text:
// https://learn.microsoft.com/entra/identity-platform/reference-error-codes. The status is 401 for invalid_client,
// else 400.
func OAuthError(code string, aadsts int, text string) Failure {
	e := entraError{http.StatusBadRequest, code, aadsts, text}
	if code == "invalid_client" {
		e.status = http.StatusUnauthorized
	}
	return Failure{func(_ *Authority, w http.ResponseWriter, r *http.Request, _ answer) {
		e.answer(r).writeTo(w)
	}}
}

// MalformedBody answers 200 with JSON that lacks its end. A real access token is in it, and azidentity's error quotes
// the body: a test can see that what is logged does not.
func MalformedBody() Failure {
	return Failure{func(_ *Authority, w http.ResponseWriter, _ *http.Request, ans answer) {
		ans.body = ans.body[:len(ans.body)-1]
		ans.writeTo(w)
	}}
}

// TruncatedBody answers 200 and cuts the connection half way through the body.
func TruncatedBody() Failure {
	return Failure{func(_ *Authority, w http.ResponseWriter, _ *http.Request, ans answer) {
		w.Header().Set("Content-Type", ans.contentType)
		w.Header().Set("Content-Length", strconv.Itoa(len(ans.body)))
		w.WriteHeader(ans.status)
		_, _ = w.Write(ans.body[:len(ans.body)/2])
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}}
}

// Hanging gives no answer until the client goes away or the authority is closed.
func Hanging() Failure {
	return Failure{func(a *Authority, _ http.ResponseWriter, r *http.Request, _ answer) {
		select {
		case <-r.Context().Done():
		case <-a.closing.Done():
		}
		panic(http.ErrAbortHandler)
	}}
}

// ConnectionCut closes the connection without an answer.
func ConnectionCut() Failure {
	return Failure{func(*Authority, http.ResponseWriter, *http.Request, answer) { panic(http.ErrAbortHandler) }}
}
