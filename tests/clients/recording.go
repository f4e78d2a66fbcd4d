// Asks for a recording: go run recording.go https://HOST:PORT CA.pem AK SK-FILE
//
// Signs (auth-v2), asks for the link of a recording, and plays a file into recording.wav. Needs nothing but Go 1.19.

package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"
)

const contentType = "application/json;charset=UTF-8"

var (
	base, ak, secret string
	client           *http.Client
)

func main() {
	base, ak = os.Args[1], os.Args[3]
	secret = strings.TrimSpace(string(must(os.ReadFile(os.Args[4]))))
	trust := x509.NewCertPool()
	trust.AppendCertsFromPEM(must(os.ReadFile(os.Args[2])))
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: trust}}
	client = &http.Client{Transport: transport, Timeout: 10 * time.Second}

	link := ask("getRecordFileUrlFromObs",
		`{"callId":"1637742300-27","beginTime":"2021-11-24 16:25:03","endTime":"2021-11-24 17:25:11","version":"2.0"}`)
	place, _, _ := strings.Cut(link.URL, "?") // whoever has the rest can fetch the recording
	fmt.Println("link", place)

	token := ask("requestPlayVoice",
		`{"request":{"version":"2.0"},"msgBody":{"fileName":"Y:/record/0/20211124/1637742300.wav"}}`).Token
	query := url.Values{"t": {"1"}, "version": {"2.0"}, "st": {token}}.Encode()
	voice := send(must(http.NewRequest("GET", base+"/CCFS/resource/ccfs/playVoice?"+query, nil)))
	check(os.WriteFile("recording.wav", voice, 0o600))
	fmt.Println("played", len(voice), "bytes")
}

// authorization returns the signature, which covers exactly these bytes: the body that is sent, and the Host that is sent.
func authorization(path, body string) string {
	names := "content-type;host"
	prefix := strings.Join([]string{"auth-v2", ak, time.Now().UTC().Format(time.RFC3339), names}, "/")
	host := must(url.Parse(base)).Host
	// A query would be a line of its own after the path; there is none here, and then no line either.
	text := strings.Join([]string{"POST", path, names, "content-type:" + encode(contentType), "host:" + encode(host), encode(body)}, "\n")
	return prefix + "/" + hexHMAC(hexHMAC(secret, prefix), text)
}

type resultData struct {
	URL   string `json:"url"`
	Token string `json:"token"`
}

func ask(service, body string) resultData {
	path := "/CCFS/resource/ccfs/" + service
	request := must(http.NewRequest("POST", base+path, strings.NewReader(body)))
	request.Header.Set("Authorization", authorization(path, body))
	request.Header.Set("Content-Type", contentType)
	var answer struct {
		ResultData             resultData
		ResultCode, ResultDesc string
	}
	check(json.Unmarshal(send(request), &answer))
	if answer.ResultCode != "0" {
		check(fmt.Errorf("%s: %s", answer.ResultCode, answer.ResultDesc))
	}
	return answer.ResultData
}

func send(request *http.Request) []byte {
	response := must(client.Do(request))
	defer response.Body.Close()
	body := must(io.ReadAll(response.Body))
	if response.StatusCode != http.StatusOK {
		check(fmt.Errorf("%s: %s", response.Status, body))
	}
	return body
}

func encode(text string) string {
	return strings.ReplaceAll(url.QueryEscape(text), "+", "%20")
}

func hexHMAC(key, text string) string {
	mac := hmac.New(sha256.New, []byte(key))
	mac.Write([]byte(text))
	return hex.EncodeToString(mac.Sum(nil))
}

func must[T any](value T, err error) T {
	check(err)
	return value
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
