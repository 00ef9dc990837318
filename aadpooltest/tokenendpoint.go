package aadpooltest

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// maxRequestBody is far more than any token request: a client assertion of a few kilobytes.
const maxRequestBody = 1 << 20

// answer is an HTTP answer that is complete before any of it is sent, so that a [Failure] can spoil it.
type answer struct {
	status      int
	contentType string
	body        []byte
}

func jsonAnswer(status int, body any) answer {
	encoded, err := json.Marshal(body)
	if err != nil {
		panic(err) // only strings and numbers are given to it
	}
	return answer{status: status, contentType: "application/json; charset=utf-8", body: encoded}
}

func (ans answer) writeTo(w http.ResponseWriter) {
	w.Header().Set("Cache-Control", "no-store, no-cache")
	w.Header().Set("Content-Type", ans.contentType)
	w.Header().Set("Content-Length", strconv.Itoa(len(ans.body)))
	w.WriteHeader(ans.status)
	_, _ = w.Write(ans.body) // the client has gone: nobody is left to tell
}

// tokenEndpoint is what the places that give out tokens have in common: counting, latency and failures.
func (a *Authority) tokenEndpoint(respond func(*http.Request) answer) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		a.requests.Add(1)
		// net/http notices that a client has gone only once the body has been read.
		r.Body = http.MaxBytesReader(w, r.Body, maxRequestBody)
		if err := r.ParseForm(); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		a.mu.Lock()
		latency := a.latency
		a.mu.Unlock()
		if !a.wait(r.Context(), latency) {
			panic(http.ErrAbortHandler)
		}
		a.mu.Lock()
		failure := a.failure
		a.mu.Unlock()
		ans := respond(r)
		if failure.serve != nil {
			failure.serve(a, w, r, ans)
			return
		}
		ans.writeTo(w)
	}
}

// wait returns true after d, and false as soon as the request or the authority has ended.
func (a *Authority) wait(request context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-request.Done():
	case <-a.closing.Done():
	}
	return false
}

// issued is a token on its way to a client.
type issued struct {
	token     string
	request   tokenRequest
	refreshIn time.Duration
}

// issue makes the token that p gets from any endpoint, or says why it gets none.
func (a *Authority) issue(p Principal, resource string) (issued, *entraError) {
	return a.issueTo("", p, resource)
}

// issueTo is issue, for a user of the application client.
func (a *Authority) issueTo(client string, p Principal, resource string) (issued, *entraError) {
	if a.isRevoked(p) {
		return issued{}, errDisabled(p)
	}
	request := a.tokenRequest(resource)
	request.client = client
	token, err := a.sign(p, request)
	if err != nil {
		return issued{}, &entraError{http.StatusInternalServerError, "server_error", 90033, err.Error()}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return issued{token: token, request: request, refreshIn: a.refreshIn}, nil
}

// expiresIn is the token's remaining life in seconds, rounded down: Entra's "3599".
func (i issued) expiresIn() int64 { return int64(time.Until(i.request.expiresAt()) / time.Second) }

// resourceOfScope returns what a scope such as "https://example.com/.default openid" asks a token for: the audience is
// the scope without "/.default".
func resourceOfScope(scope string) (resource string, ok bool) {
	for field := range strings.FieldsSeq(scope) {
		if resource, ok = strings.CutSuffix(field, "/.default"); ok {
			return resource, true
		}
	}
	return "", false
}
