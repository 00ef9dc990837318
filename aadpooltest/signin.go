package aadpooltest

import (
	"cmp"
	"context"
	_ "embed"
	"errors"
	"html/template"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"time"
)

// codeLife is how long an authorization code is good for:
// https://learn.microsoft.com/entra/identity-platform/v2-oauth2-auth-code-flow#successful-response
const codeLife = 10 * time.Minute

// The ways of an authorization code back to the client:
// https://learn.microsoft.com/entra/identity-platform/v2-oauth2-auth-code-flow#request-an-authorization-code
const (
	responseQuery    = "query"
	responseFormPost = "form_post"
)

// signIns is what an authority knows of users who sign in.
type signIns struct {
	asked          int                       // of the pages, and of the device code endpoint
	codes          map[string]authorization  // by authorization code
	devices        map[string]*deviceSignIn  // by device code
	refresh        map[string]userGrantOwner // by refresh token
	refusal        *entraError               // of every sign-in
	deviceCodeLife time.Duration             // of those given out from now on
}

// userGrantOwner is who has signed in, and in which application.
type userGrantOwner struct{ user, client string }

// An authorization is one that waits for its code to be redeemed.
type authorization struct {
	userGrantOwner
	redirectURI, challenge string
	expires                time.Time
}

func newSignIns() signIns {
	return signIns{codes: map[string]authorization{}, devices: map[string]*deviceSignIn{},
		refresh: map[string]userGrantOwner{}, deviceCodeLife: deviceCodeLife}
}

// forget ends what a user could renew tokens with.
func (s *signIns) forget(user string) {
	for token, owner := range s.refresh {
		if owner.user == user {
			delete(s.refresh, token)
		}
	}
}

// SignIns returns how often somebody was asked to sign in: requests for the sign-in page, and for device codes. A
// client that uses what it has kept of an earlier sign-in makes none.
func (a *Authority) SignIns() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.signIns.asked
}

// RefuseSignIns makes every sign-in of a user fail, by browser or device code, and every renewal of one, as a policy of
// the tenant does: RefuseSignIns(53003, "Access has been blocked by Conditional Access policies. …"), for example. The
// numbers: https://learn.microsoft.com/entra/identity-platform/reference-error-codes. 0 ends it.
func (a *Authority) RefuseSignIns(aadsts int, text string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.signIns.refusal = nil
	if aadsts != 0 {
		a.signIns.refusal = &entraError{http.StatusBadRequest, "invalid_grant", aadsts, text}
	}
}

func (a *Authority) signInRefusal() *entraError {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.signIns.refusal
}

// handleSignIns adds what a user's browser and a public client ask.
func (a *Authority) handleSignIns(mux *http.ServeMux) {
	mux.HandleFunc("GET /{tenant}/oauth2/v2.0/authorize", a.ofTenant(a.serveSignInPage))
	mux.HandleFunc("POST /{tenant}/oauth2/v2.0/authorize", a.ofTenant(a.signInAtPage))
	mux.HandleFunc("POST /{tenant}/oauth2/v2.0/devicecode", a.ofTenant(a.serveDeviceCode))
	mux.HandleFunc("GET "+deviceLoginPath, a.serveDevicePage)
	mux.HandleFunc("POST "+deviceLoginPath, a.signInAtDevicePage)
}

//go:embed signin.html
var signInHTML string

var signInPages = template.Must(template.New("signin").Parse(signInHTML))

// A signInPage is what the templates show.
type signInPage struct {
	Title  string
	Text   string      // what to say, in place of anything to choose
	Users  []Principal // to choose from
	Hint   string      // whom the client expects
	Hidden url.Values  // parameters of the request, to come back
	Action string      // where the form goes; empty: to this page
	Code   bool        // ask for a user code, too
}

// write shows a page. Nothing but its own style may run in it, and nothing may hold it in a frame.
func (page signInPage) write(w http.ResponseWriter, status int, name string) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Frame-Options", "DENY")
	w.WriteHeader(status)
	_ = signInPages.ExecuteTemplate(w, name, page) // the browser has gone: nobody is left to tell
}

// users are those who can sign in.
func (a *Authority) users() []Principal {
	a.mu.Lock()
	defer a.mu.Unlock()
	var users []Principal
	for _, p := range a.principals {
		if p.Kind == User {
			users = append(users, p)
		}
	}
	return users
}

// serveSignInPage answers per
// https://learn.microsoft.com/entra/identity-platform/v2-oauth2-auth-code-flow#request-an-authorization-code.
func (a *Authority) serveSignInPage(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	a.signIns.asked++
	a.mu.Unlock()
	query := r.URL.Query()
	if refused := a.checkAuthorization(query); refused != nil {
		signInPage{Title: "Sorry, but we’re having trouble signing you in.", Text: refused.String()}.
			write(w, refused.status, "page")
		return
	}
	signInPage{Title: "Pick an account", Users: a.users(), Hint: query.Get("login_hint"), Hidden: query}.
		write(w, http.StatusOK, "page")
}

// checkAuthorization says what is wrong with a request that no page can mend, and that must not be sent on to a
// redirect URI that is nobody's.
func (a *Authority) checkAuthorization(query url.Values) *entraError {
	client := query.Get("client_id")
	switch {
	case client == "":
		return errMissingParameter("client_id")
	case !a.isPublicClient(client):
		return errApplicationNotFound(client, a.tenantID)
	case !isLoopbackURI(query.Get("redirect_uri")):
		return errRedirectURI(query.Get("redirect_uri"), client)
	case query.Get("response_type") != "code":
		return errMissingParameter("response_type")
	}
	if method := query.Get("code_challenge_method"); query.Get("code_challenge") == "" || method != "S256" {
		return errMissingParameter("code_challenge")
	}
	if _, ok := resourceOfScope(query.Get("scope")); !ok {
		return errScope(query.Get("scope"))
	}
	return nil
}

// isPublicClient reports whether users sign in with the application: the one that azidentity takes by itself, or one
// that has been registered.
func (a *Authority) isPublicClient(client string) bool {
	if strings.EqualFold(client, azureCLIClientID) {
		return true
	}
	p, ok := a.principalByClientID(client)
	return ok && p.Kind == ServicePrincipal
}

// isLoopbackURI reports whether a redirect URI is http://localhost on any port, as public clients register it:
// https://learn.microsoft.com/entra/identity-platform/reply-url#localhost-exceptions
func isLoopbackURI(uri string) bool {
	u, err := url.Parse(uri)
	return err == nil && u.Scheme == "http" && u.User == nil && u.Hostname() == "localhost"
}

// signInAtPage is the user's choice.
func (a *Authority) signInAtPage(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxRequestBody)
	if err := r.ParseForm(); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if refused := a.checkAuthorization(r.PostForm); refused != nil {
		signInPage{Title: "Sorry, but we’re having trouble signing you in.", Text: refused.String()}.
			write(w, refused.status, "page")
		return
	}
	back := a.authorize(r.PostForm, r.PostForm.Get("user"))
	target := r.PostForm.Get("redirect_uri")
	if cmp.Or(r.PostForm.Get("response_mode"), responseQuery) == responseFormPost {
		signInPage{Title: "Working…", Hidden: back, Action: target}.write(w, http.StatusOK, "back")
		return
	}
	http.Redirect(w, r, target+"?"+back.Encode(), http.StatusFound)
}

// authorize is what the client is told when the user has signed in, or has not.
func (a *Authority) authorize(query url.Values, user string) url.Values {
	back := url.Values{"state": {query.Get("state")}}
	if refused := a.checkSignIn(user); refused != nil {
		code := refused.code
		if code != "invalid_request" {
			code = "access_denied"
		}
		back.Set("error", code)
		back.Set("error_description", refused.String())
		return back
	}
	code := randomID(40)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.signIns.codes[code] = authorization{userGrantOwner{user, query.Get("client_id")}, query.Get("redirect_uri"),
		query.Get("code_challenge"), time.Now().Add(codeLife)}
	back.Set("code", code)
	return back
}

// checkSignIn says why a user gets nothing. No user is one who has cancelled.
func (a *Authority) checkSignIn(user string) *entraError {
	if user == "" {
		return errDeclined()
	}
	p, ok := a.principalByName(user)
	switch {
	case !ok || p.Kind != User:
		return errUserNotFound(user, a.tenantID)
	case a.isRevoked(p):
		return errDisabled(p)
	}
	return a.signInRefusal()
}

// browse is what the stand-in for a browser has opened: its user signs in, and the answer goes where a browser would
// take it.
func (a *Authority) browse(w http.ResponseWriter, r *http.Request) {
	p, ok := a.principalByMachineSecret(r.PathValue("secret"))
	arguments := toolArguments(r)
	if !ok || len(arguments) != 1 {
		toolError("this stand-in for a browser wants one address").writeTo(w)
		return
	}
	if err := a.signInByBrowser(r.Context(), p.Name, arguments[0]); err != nil {
		toolError("%v", err).writeTo(w)
		return
	}
	answer{status: http.StatusOK, contentType: "text/plain"}.writeTo(w)
}

func (a *Authority) signInByBrowser(ctx context.Context, user, address string) error {
	u, err := url.Parse(address)
	if err != nil || u.Host != a.entraAddress() || !strings.HasSuffix(u.Path, "/oauth2/v2.0/authorize") {
		return errors.New("this stand-in for a browser opens the authority's sign-in page only")
	}
	a.mu.Lock()
	a.signIns.asked++
	a.mu.Unlock()
	query := u.Query()
	if refused := a.checkAuthorization(query); refused != nil {
		return errors.New(refused.String())
	}
	return postBack(ctx, query.Get("redirect_uri"), a.authorize(query, user))
}

// postBack sends a form to a public client that waits on a loopback port. It sends it once more where the connection
// ends without an answer: MSAL's server closes one that has sent nothing for a second, as it may on a slow machine.
func postBack(ctx context.Context, uri string, form url.Values) error {
	// No proxy and no connection that is kept: the client's server ends with this request.
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: (&net.Dialer{}).DialContext}}
	response, err := post(ctx, client, uri, form)
	if errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) {
		response, err = post(ctx, client, uri, form)
	}
	if err != nil {
		return err
	}
	defer response.Body.Close()
	_, err = io.Copy(io.Discard, response.Body)
	return err
}

func post(ctx context.Context, client *http.Client, uri string, form url.Values) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, uri, strings.NewReader(form.Encode()))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return client.Do(request)
}
