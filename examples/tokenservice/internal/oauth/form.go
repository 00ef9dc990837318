package oauth

import (
	"errors"
	"mime"
	"net/http"
	"net/url"
	"os"
	"slices"
	"time"

	"github.com/zitadel/oidc/v3/pkg/oidc"
)

// maxForm is many times what any request needs. A refresh token has 47 bytes.
const maxForm = 16 << 10

// readForm reads the request's form, and lets only requests through that keep to the standard's rules for forms and
// client credentials. The library is more lenient: it takes parameters from the URL, where everyone on the way would
// log them, and the first of several of the same name.
func (s *Server) readForm(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		deadline := http.NewResponseController(w)
		_ = deadline.SetReadDeadline(time.Now().Add(s.config.BodyTimeout)) // fails in tests without a connection
		r.Body = http.MaxBytesReader(w, r.Body, maxForm)
		err := parseForm(r)
		if errors.Is(err, errSlowBody) {
			s.slowBodies.Add(1)
			w.Header().Set("Connection", "close")
		}
		if err == nil {
			err = checkCredentials(w, r)
		}
		if err != nil {
			writeError(w, r, err) // with the deadline as it is, for the rest of the body
			return
		}
		_ = deadline.SetReadDeadline(time.Time{})
		next.ServeHTTP(w, r)
	})
}

func parseForm(r *http.Request) error {
	// https://www.rfc-editor.org/rfc/rfc6749#section-2.3.1
	if r.URL.RawQuery != "" {
		return invalidRequest("parameters belong in the body, not in the URL")
	}
	media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || media != "application/x-www-form-urlencoded" {
		return invalidRequest("the Content-Type must be application/x-www-form-urlencoded")
	}
	err = r.ParseForm()
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return answer(http.StatusRequestEntityTooLarge, oidc.ErrInvalidRequest(), "the body is too large")
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return errSlowBody
	}
	if err != nil {
		return invalidRequest("the body is not a form")
	}
	return checkParameters(r)
}

// targetParameters name the audience of a token. The standards allow several: a token here is for one.
var targetParameters = []string{
	"resource", // https://www.rfc-editor.org/rfc/rfc8707#section-2
	"audience", // https://www.rfc-editor.org/rfc/rfc8693#section-2.1, which others take for all grants
}

// checkParameters: https://www.rfc-editor.org/rfc/rfc6749#section-3.2.
func checkParameters(r *http.Request) error {
	for name, values := range r.PostForm {
		if len(values) > 1 && slices.Contains(targetParameters, name) {
			return invalidTarget()
		}
		if len(values) > 1 {
			return invalidRequest("a parameter is there more than once")
		}
		if values[0] == "" {
			r.PostForm.Del(name)
			r.Form.Del(name)
		}
	}
	return nil
}

// errSlowBody: https://www.rfc-editor.org/rfc/rfc9110#section-15.5.9.
var errSlowBody = answer(http.StatusRequestTimeout, oidc.ErrInvalidRequest(), "the body did not arrive in time")

func invalidRequest(description string) error {
	return answer(http.StatusBadRequest, oidc.ErrInvalidRequest(), description)
}

// checkCredentials lets requests through that have a client id and a secret, in a way that this server knows. The
// library answers some of what is refused here with other errors than
// https://www.rfc-editor.org/rfc/rfc6749#section-5.2 asks for.
//
// A client must not authenticate in two ways (https://www.rfc-editor.org/rfc/rfc6749#section-2.3), but some send their
// credentials by HTTP Basic and in the form. Where both are the same, nothing can be mistaken, and those in the form
// are dropped.
func checkCredentials(w http.ResponseWriter, r *http.Request) error {
	formID, formSecret := r.PostForm.Get("client_id"), r.PostForm.Get("client_secret")
	switch {
	case len(r.Header.Values("Authorization")) > 1: // https://www.rfc-editor.org/rfc/rfc9110#section-5.3
		return invalidRequest("there is more than one Authorization header")
	case r.PostForm.Get("client_assertion") != "":
		return unauthorized(w.Header())
	case r.Header.Get("Authorization") == "" && formID != "" && formSecret != "":
		return nil
	}
	id, password, ok := r.BasicAuth()
	id, idErr := url.QueryUnescape(id)
	password, passwordErr := url.QueryUnescape(password)
	if !ok || id == "" || password == "" || idErr != nil || passwordErr != nil {
		return unauthorized(w.Header())
	}
	if formID != "" && formID != id || formSecret != "" && formSecret != password {
		return invalidRequest("the credentials in the form are others than those of HTTP Basic")
	}
	r.PostForm.Del("client_secret")
	r.Form.Del("client_secret")
	return nil
}
