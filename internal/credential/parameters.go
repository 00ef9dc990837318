package credential

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/aadpool/aadpool/internal/entra"
	"github.com/aadpool/aadpool/internal/lazyregexp"
)

// Parameters are what a DSN says that is aadpool's own. The zero value is a DSN that says nothing of the kind.
type Parameters struct {
	Credential, ClientID, TenantID, LoginHint, TokenFile, CertificateFile string

	TokenTimeout  time.Duration // 0: not said
	Scope         string
	UserFromToken bool
}

// Settings are those of the credential.
func (p Parameters) Settings() Settings {
	return Settings{Name: p.Credential, ClientID: p.ClientID, TenantID: p.TenantID, LoginHint: p.LoginHint,
		TokenFile: p.TokenFile, CertificateFile: p.CertificateFile}
}

var tenantID = lazyregexp.New(`^[A-Za-z0-9.-]+$`) // a UUID, or its domain

// CheckClientID says what is wrong with a client id; "" if nothing is.
func CheckClientID(id string) string {
	if entra.IsUUID(id) {
		return ""
	}
	return "must be a UUID, the client id (application id) of the identity, which is not its object id"
}

// CheckTenantID says what is wrong with a tenant's id; "" if nothing is.
func CheckTenantID(id string) string {
	if tenantID.MatchString(id) {
		return ""
	}
	return "must be a tenant's UUID or domain"
}

// ReadParameters reads them from what a DSN gives by their names. No error repeats a value.
func ReadParameters(given map[string]string) (p Parameters, err error) {
	p = Parameters{Credential: given["credential"], ClientID: given["client_id"], TenantID: given["tenant_id"],
		LoginHint: given["login_hint"], TokenFile: given["oidc_token_file"], CertificateFile: given["client_certificate"],
		Scope: given["scope"]}
	var faults []error
	check := func(name, separator string, fault func(string) string) {
		if value, ok := given[name]; ok {
			if text := fault(value); text != "" {
				faults = append(faults, errors.New(name+"="+separator+text))
			}
		}
	}
	check("credential", ": ", CheckName)
	check("client_id", " ", CheckClientID)
	check("tenant_id", " ", CheckTenantID)
	check("token_timeout", " ", func(value string) string {
		if p.TokenTimeout, err = time.ParseDuration(value); err != nil || p.TokenTimeout <= 0 {
			return "must be more than 0, with its unit, such as 45s or 15m"
		}
		return ""
	})
	check("user_from_token", " ", func(value string) string {
		if p.UserFromToken, err = strconv.ParseBool(value); err != nil {
			return "must be true or false"
		}
		return ""
	})
	return p, inOneLine(faults)
}

// inOneLine is errors.Join in one line.
func inOneLine(errs []error) error {
	if len(errs) < 2 {
		return errors.Join(errs...)
	}
	return fmt.Errorf("%w; %w", errs[0], inOneLine(errs[1:]))
}
