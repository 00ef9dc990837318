package api

import (
	"net/http"
	"time"

	"github.com/google/uuid"

	"github.com/aadpool/aadpool/examples/tokenservice/internal/secret"
	"github.com/aadpool/aadpool/examples/tokenservice/internal/store"
	"github.com/aadpool/aadpool/examples/tokenservice/resource"
)

// me answers from the token alone: no database is asked.
func (a *API) me(w http.ResponseWriter, r *http.Request) {
	claims, _ := resource.FromContext(r.Context())
	writeJSON(w, http.StatusOK, map[string]any{
		"client_id":   claims.ClientID,
		"permissions": claims.Roles,
		"audience":    claims.Audience,
		"token_id":    claims.ID,
		"expires_at":  claims.Expiry.Time().UTC(),
	})
}

// newSecret is the only answer that a secret is in.
type newSecret struct {
	ClientID     uuid.UUID `json:"client_id"`
	ClientSecret string    `json:"client_secret"`
}

func (a *API) list(r *http.Request, _ store.Actor) (any, error) {
	found, err := a.store.Principals(r.Context())
	return map[string]any{"principals": found}, err
}

func (a *API) create(r *http.Request, by store.Actor) (any, error) {
	var body struct {
		Name        string   `json:"name"`
		Permissions []string `json:"permissions"`
	}
	if err := decode(r, &body); err != nil {
		return nil, err
	}
	s := secret.NewClientSecret()
	hash, err := a.hasher.Hash(r.Context(), s)
	if err != nil {
		return nil, err
	}
	clientID, err := a.store.CreatePrincipal(r.Context(), by, body.Name, body.Permissions, s.ID, hash)
	return newSecret{clientID, s.Reveal()}, err
}

func (a *API) get(r *http.Request, _ store.Actor, id uuid.UUID) (any, error) {
	return a.store.Principal(r.Context(), id)
}

func (a *API) delete(r *http.Request, by store.Actor, id uuid.UUID) (any, error) {
	return nil, a.store.Delete(r.Context(), by, id)
}

func (a *API) rotateSecret(r *http.Request, by store.Actor, id uuid.UUID) (any, error) {
	body := struct {
		OverlapSeconds uint32 `json:"overlap_seconds"`
	}{uint32(DefaultOverlap / time.Second)}
	if err := decode(r, &body); err != nil {
		return nil, err
	}
	s := secret.NewClientSecret()
	hash, err := a.hasher.Hash(r.Context(), s)
	if err != nil {
		return nil, err
	}
	overlap := time.Duration(body.OverlapSeconds) * time.Second
	return newSecret{id, s.Reveal()}, a.store.RotateSecret(r.Context(), by, id, overlap, s.ID, hash)
}

func (a *API) disable(r *http.Request, by store.Actor, id uuid.UUID) (any, error) {
	return nil, a.store.Disable(r.Context(), by, id)
}

func (a *API) grant(r *http.Request, by store.Actor, id uuid.UUID) (any, error) {
	return nil, a.store.Grant(r.Context(), by, id, r.PathValue("permission"))
}

func (a *API) revoke(r *http.Request, by store.Actor, id uuid.UUID) (any, error) {
	return nil, a.store.Revoke(r.Context(), by, id, r.PathValue("permission"))
}

// ofPrincipal is an endpoint for one principal: the one whose id is in the path.
func ofPrincipal(serve func(r *http.Request, by store.Actor, id uuid.UUID) (any, error)) endpoint {
	return func(r *http.Request, by store.Actor) (any, error) {
		id, err := uuid.Parse(r.PathValue("id"))
		if err != nil {
			return nil, errNoSuchID
		}
		return serve(r, by, id)
	}
}
