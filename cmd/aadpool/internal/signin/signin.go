// Package signin keeps what a user's sign-in leaves for later commands: a record of who it was, in a file, and what
// renews tokens, in the system's keyring. The record is no secret. What is in the keyring is written and read by
// azidentity's own cache: https://aka.ms/azsdk/go/identity/caching
package signin

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

	"github.com/aadpool/aadpool/cmd/aadpool/internal/agentclient"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/wholefile"
)

// A SignIn is one that lasts until Forget, or until Entra ends it.
type SignIn struct {
	// Credential is the name of the one that signed in: browser or device-code.
	Credential string `json:"credential"`
	// Record is azidentity's.
	Record azidentity.AuthenticationRecord `json:"record"`
}

// ErrNoKeyring is the cause where a sign-in cannot be kept.
var ErrNoKeyring = errors.New(
	"there is no keyring that could keep the sign-in, as in most containers and in WSL")

// errNoKeychain is ErrNoKeyring of a release's program for macOS, which is built on Linux.
var errNoKeychain = fmt.Errorf("%w: this program was built without the Keychain of macOS; those that Homebrew and "+
	"go install build on this machine have it", ErrNoKeyring)

// noKeyring is why a program that was built without a keyring's library has none.
func noKeyring(system string) error {
	if system == "darwin" {
		return errNoKeychain
	}
	return ErrNoKeyring
}

// cacheName is that of the cache in the keyring: the command's own, so that signing out ends nobody else's sign-in, and
// one for each configuration directory.
func cacheName() string {
	name, _ := agentclient.SignInFile() // without a directory there is no record either
	sum := sha256.Sum256([]byte(name))
	return "aadpool-" + hex.EncodeToString(sum[:4])
}

// cacheNames are what azidentity makes of it: the second is for clients that take Continuous Access Evaluation.
func cacheNames() []string { return []string{cacheName(), cacheName() + ".cae"} }

// Load returns the sign-in that was kept, and whether there is one.
func Load() (s SignIn, ok bool, err error) {
	name, err := agentclient.SignInFile()
	if err != nil { // no home, no sign-in: a daemon of the system
		return SignIn{}, false, nil
	}
	content, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return SignIn{}, false, nil
	}
	if err == nil {
		err = json.Unmarshal(content, &s)
	}
	if err != nil {
		return SignIn{}, false, fmt.Errorf("reading the sign-in that was kept: %w; aadpool logout removes it", err)
	}
	return s, true, nil
}

// Save keeps the sign-in for the user alone.
func (s SignIn) Save() error {
	name, err := agentclient.SignInFile()
	if err != nil {
		return err
	}
	content, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		return fmt.Errorf("keeping the sign-in: %w", err)
	}
	if err := wholefile.Write(name, 0o600, bytes.NewReader(append(content, '\n'))); err != nil {
		return fmt.Errorf("keeping the sign-in: %w", err)
	}
	return nil
}

// Forget removes what was kept: the record, and what renews tokens. It reports whether there was anything.
func Forget() (found bool, err error) {
	name, err := agentclient.SignInFile()
	if err != nil {
		return false, nil
	}
	found, err = remove(name)
	forgotten, keyringErr := forgetKeyring()
	return found || forgotten, errors.Join(err, keyringErr)
}

// remove removes a file, and reports whether it was there.
func remove(name string) (found bool, err error) {
	err = os.Remove(name)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return false, nil
	}
	return err == nil, err
}

// removeCache removes the files of the cache in dir, and their locks.
func removeCache(dir string) (found bool, err error) {
	for _, name := range cacheNames() {
		path := filepath.Join(dir, ".IdentityService", name)
		there, removeErr := remove(path)
		_, lockErr := remove(path + ".lockfile")
		found, err = found || there, errors.Join(err, removeErr, lockErr)
	}
	return found, err
}
