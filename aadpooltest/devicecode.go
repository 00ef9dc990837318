package aadpooltest

import (
	"crypto/rand"
	"fmt"
	"net/http"
	"time"
)

// What Entra's answers say: https://learn.microsoft.com/entra/identity-platform/v2-oauth2-device-code
const (
	deviceCodeLife     = 15 * time.Minute
	deviceCodeInterval = 5 * time.Second
)

// minPollInterval is the shortest pause between two polls that is not told to slow down. Entra lets clients ask more
// often than deviceCodeInterval, and azidentity does.
const minPollInterval = 20 * time.Millisecond

// deviceLoginPath is of the page for user codes: Entra's is https://microsoft.com/devicelogin.
const deviceLoginPath = "/devicelogin"

// A deviceSignIn is one that waits for its user.
type deviceSignIn struct {
	userGrantOwner // no user yet: nobody has entered the code
	userCode       string
	declined       *entraError
	expires        time.Time
	polled         time.Time
}

// SetDeviceCodeLife sets how long a user has to enter a device code that is given out from now on, in whole seconds.
// Default: 15 minutes.
func (a *Authority) SetDeviceCodeLife(d time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.signIns.deviceCodeLife = d
}

// EnterDeviceCode does what a user does at the page that a device code's message names: it enters the user code and
// signs in. It fails where there is no such code, or no such user. With user "" the user declines.
func (a *Authority) EnterDeviceCode(userCode, user string) error {
	if refused := a.enterDeviceCode(userCode, user); refused != nil && refused.number != errDeclined().number {
		return fmt.Errorf("aadpooltest: enter a device code: %s", refused)
	}
	return nil
}

func (a *Authority) enterDeviceCode(userCode, user string) *entraError {
	refused := a.checkSignIn(user)
	if refused != nil && refused.number == noSuchUser {
		return refused
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, d := range a.signIns.devices {
		if d.userCode == userCode && d.user == "" && time.Now().Before(d.expires) {
			d.user, d.declined = user, refused
			return refused
		}
	}
	return &entraError{http.StatusBadRequest, "invalid_grant", 70018,
		"Invalid verification code due to User typing in wrong user code for device code flow."}
}

// serveDeviceCode answers per https://www.rfc-editor.org/rfc/rfc8628#section-3.2.
func (a *Authority) serveDeviceCode(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxRequestBody)
	if err := r.ParseForm(); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	client := r.PostForm.Get("client_id")
	if !a.isPublicClient(client) {
		errApplicationNotFound(client, a.tenantID).answer(r).writeTo(w)
		return
	}
	deviceCode, userCode := randomID(60), rand.Text()[:9]
	a.mu.Lock()
	a.signIns.asked++
	life := a.signIns.deviceCodeLife
	a.signIns.devices[deviceCode] = &deviceSignIn{userGrantOwner: userGrantOwner{client: client}, userCode: userCode,
		expires: time.Now().Add(life)}
	a.mu.Unlock()
	page := "https://" + a.entraAddress() + deviceLoginPath
	jsonAnswer(http.StatusOK, map[string]any{
		"device_code":      deviceCode,
		"user_code":        userCode,
		"verification_uri": page,
		"expires_in":       int64(life / time.Second),
		"interval":         int64(deviceCodeInterval / time.Second),
		"message": fmt.Sprintf("To sign in, use a web browser to open the page %s and enter the code %s to authenticate.",
			page, userCode),
	}).writeTo(w)
}

func (a *Authority) serveDevicePage(w http.ResponseWriter, _ *http.Request) {
	signInPage{Title: "Enter code to allow access", Users: a.users(), Code: true}.write(w, http.StatusOK, "page")
}

func (a *Authority) signInAtDevicePage(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxRequestBody)
	if err := r.ParseForm(); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if refused := a.enterDeviceCode(r.PostForm.Get("user_code"), r.PostForm.Get("user")); refused != nil {
		signInPage{Title: "You have not signed in", Text: refused.String()}.write(w, refused.status, "page")
		return
	}
	signInPage{Title: "You have signed in", Text: "You may close this window."}.write(w, http.StatusOK, "page")
}

// deviceGrant is who has entered the code that the client polls for.
func (a *Authority) deviceGrant(r *http.Request) (userGrantOwner, *entraError) {
	a.mu.Lock()
	defer a.mu.Unlock()
	code := r.PostForm.Get("device_code")
	d, ok := a.signIns.devices[code]
	if !ok {
		return userGrantOwner{}, errInvalidGrant("device_code")
	}
	polled := d.polled
	d.polled = time.Now()
	switch {
	case time.Now().After(d.expires):
		return userGrantOwner{}, errDeviceCodeExpired()
	case d.declined != nil:
		return userGrantOwner{}, d.declined
	case d.user == "" && time.Since(polled) < minPollInterval:
		return userGrantOwner{}, errSlowDown()
	case d.user == "":
		return userGrantOwner{}, errAuthorizationPending()
	}
	delete(a.signIns.devices, code)
	return d.userGrantOwner, nil
}
