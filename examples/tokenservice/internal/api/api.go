// Package api is what the token service serves as a resource server of its own: who am I, and the administration of
// principals.
package api

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"time"

	"github.com/google/uuid"

	"github.com/aadpool/aadpool/examples/tokenservice/internal/oauth"
	"github.com/aadpool/aadpool/examples/tokenservice/internal/secret"
	"github.com/aadpool/aadpool/examples/tokenservice/internal/store"
	"github.com/aadpool/aadpool/examples/tokenservice/resource"
)

// AdminPermission is needed to administer principals. Who has it can give it to others.
const AdminPermission = "principals:admin"

// DefaultOverlap is how long the previous secret stays valid after a rotation.
const DefaultOverlap = 24 * time.Hour

// maxBody is many times what any request needs.
const maxBody = 16 << 10

// API serves /v1.
type API struct {
	store    *store.Store
	hasher   *secret.Hasher
	verifier *resource.Verifier
	log      *slog.Logger
}

// New returns an API that accepts the tokens that verifier does.
func New(store *store.Store, hasher *secret.Hasher, verifier *resource.Verifier, log *slog.Logger) *API {
	return &API{store, hasher, verifier, log}
}

// Register adds the API's routes to mux.
func (a *API) Register(mux *http.ServeMux) {
	mux.Handle("GET /v1/me", a.verifier.Authenticated(http.HandlerFunc(a.me)))
	admin := func(pattern string, serve endpoint) {
		mux.Handle(pattern, a.verifier.Require(AdminPermission, a.administrators(serve)))
	}
	admin("GET /v1/principals", a.list)
	admin("POST /v1/principals", a.create)
	admin("GET /v1/principals/{id}", ofPrincipal(a.get))
	admin("DELETE /v1/principals/{id}", ofPrincipal(a.delete))
	admin("POST /v1/principals/{id}/secrets", ofPrincipal(a.rotateSecret))
	admin("POST /v1/principals/{id}/disable", ofPrincipal(a.disable))
	admin("PUT /v1/principals/{id}/permissions/{permission}", ofPrincipal(a.grant))
	admin("DELETE /v1/principals/{id}/permissions/{permission}", ofPrincipal(a.revoke))
}

// an endpoint returns what to answer with, or nil for nothing.
type endpoint func(r *http.Request, by store.Actor) (any, error)

// administrators checks in the database that the caller still is an administrator. One who is removed could otherwise
// undo that with the rest of an access token.
func (a *API) administrators(serve endpoint) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		claims, _ := resource.FromContext(r.Context())
		clientID, err := uuid.Parse(claims.ClientID)
		if err == nil {
			err = a.store.CheckActive(r.Context(), clientID, AdminPermission)
		}
		if errors.Is(err, store.ErrNotFound) || errors.Is(err, store.ErrDisabled) {
			err = errNotAdministrator
		}
		if err != nil {
			a.fail(w, r, err)
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		result, err := serve(r, store.Actor{Name: claims.ClientID, Address: oauth.Address(r)})
		if err != nil {
			a.fail(w, r, err)
			return
		}
		respond(w, r, result)
	})
}

func respond(w http.ResponseWriter, r *http.Request, result any) {
	if result == nil {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	status := http.StatusOK
	if r.Method == http.MethodPost {
		status = http.StatusCreated
	}
	writeJSON(w, status, result)
}

func writeJSON(w http.ResponseWriter, status int, value any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(value) // fails only if the client has gone
}

var (
	errNotAdministrator = errors.New("the client is not an administrator any more")
	errNoSuchID         = errors.New("the id of a principal is a UUID")
)

// fail answers with an error in the form of OAuth.
func (a *API) fail(w http.ResponseWriter, r *http.Request, err error) {
	status, code, description := http.StatusInternalServerError, "server_error", "the request could not be completed"
	var tooLarge *http.MaxBytesError
	var badBody bodyError
	switch {
	case errors.Is(err, errNotAdministrator):
		status, code, description = http.StatusForbidden, "insufficient_scope", err.Error()
	case errors.Is(err, store.ErrNotFound), errors.Is(err, errNoSuchID):
		status, code, description = http.StatusNotFound, "not_found", store.ErrNotFound.Error()
	case errors.Is(err, store.ErrExists):
		status, code, description = http.StatusConflict, "conflict", store.ErrExists.Error()
	case errors.As(err, &tooLarge):
		status, code, description = http.StatusRequestEntityTooLarge, "invalid_request", "the body is too large"
	case errors.Is(err, store.ErrInvalid), errors.As(err, &badBody):
		status, code, description = http.StatusBadRequest, "invalid_request", err.Error()
	case store.Unavailable(err), errors.Is(err, context.Canceled):
		w.Header().Set("Retry-After", "5")
		status, code = http.StatusServiceUnavailable, "temporarily_unavailable"
		description = "the service is not available; try again later"
	}
	if status >= http.StatusInternalServerError {
		a.log.WarnContext(r.Context(), "a request failed", slog.String("route", r.Pattern), slog.Any("error", err))
	}
	writeJSON(w, status, map[string]string{"error": code, "error_description": description})
}

// bodyError is what is wrong with a request's body. It repeats nothing of it.
type bodyError string

func (e bodyError) Error() string { return string(e) }

// decode reads a body of JSON into value. Without one, value stays as it is.
func decode(r *http.Request, value any) error {
	body, err := io.ReadAll(r.Body)
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return err
	case err != nil:
		return bodyError("the body cannot be read")
	case len(body) == 0:
		return nil
	}
	if media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || media != "application/json" {
		return bodyError("the Content-Type must be application/json")
	}
	if err := json.Unmarshal(body, value); err != nil {
		return bodyError("the body is not the JSON that this endpoint takes")
	}
	return nil
}
