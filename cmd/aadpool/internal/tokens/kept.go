package tokens

import (
	"context"
	"errors"
	"fmt"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

	"github.com/aadpool/aadpool/cmd/aadpool/internal/signin"
	"github.com/aadpool/aadpool/internal/credential"
)

// withSignIn has the settings use the sign-in that aadpool login has kept: in place of the default chain without asking
// anybody, and where the credential is one that signs in.
func withSignIn(s credential.Settings) (credential.Settings, error) {
	isDefault := s.Name == credential.Default && s.ClientID == ""
	if !isDefault && !credential.IsSignIn(s.Name) {
		return s, nil
	}
	kept, ok, err := signin.Load()
	if err != nil || !ok {
		return s, err
	}
	keyring, err := signin.Keyring()
	if err != nil {
		return s, err
	}
	if isDefault {
		s.Name, s.ClientID, s.TenantID = kept.Credential, kept.Record.ClientID, kept.Record.TenantID
	}
	s.SignIn.Record, s.SignIn.Cache, s.SignIn.Silent = kept.Record, keyring, isDefault
	return s, nil
}

// A keptSignIn says what to do where the sign-in has ended.
type keptSignIn struct{ azcore.TokenCredential }

func (k keptSignIn) GetToken(ctx context.Context, options policy.TokenRequestOptions) (azcore.AccessToken, error) {
	token, err := k.TokenCredential.GetToken(ctx, options)
	if _, ok := errors.AsType[*azidentity.AuthenticationRequiredError](err); ok {
		err = fmt.Errorf("the sign-in has ended, or a policy wants to see you again: aadpool login (or aadpool logout, "+
			"for the default chain): %w", err)
	}
	return token, err
}
