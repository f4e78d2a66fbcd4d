// Sends the requests of a file with net/http: go run client.go VERSION CA.pem REQUESTS.tsv
// Columns: name, method, URL, "expect" or "-", body file or "-", headers as "Name: value".
// Prints one line a request: name, status, bytes of the body, HTTP version; or name and the error.
package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"
)

func main() {
	version, ca, requests := os.Args[1], os.Args[2], os.Args[3]
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(read(ca))
	transport := &http.Transport{
		TLSClientConfig:       &tls.Config{RootCAs: pool},
		ForceAttemptHTTP2:     version == "2",
		ExpectContinueTimeout: 10 * time.Second,
	}
	client := &http.Client{Transport: transport, Timeout: 10 * time.Second}
	for _, line := range strings.Split(strings.TrimSpace(string(read(requests))), "\n") {
		columns := strings.Split(line, "\t")
		result, err := send(client, columns)
		if err != nil {
			result = strings.ReplaceAll(err.Error(), "\n", " ")
		}
		fmt.Printf("%s\t%s\n", columns[0], result)
	}
}

func send(client *http.Client, columns []string) (string, error) {
	var body io.Reader
	if columns[4] != "-" {
		body = bytes.NewReader(read(columns[4]))
	}
	request, err := http.NewRequest(columns[1], columns[2], body)
	if err != nil {
		return "", err
	}
	for _, header := range columns[5:] {
		name, value, _ := strings.Cut(header, ": ")
		request.Header.Set(name, value)
	}
	if columns[3] == "expect" {
		request.Header.Set("Expect", "100-continue")
	}
	response, err := client.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	if err != nil {
		return "", err
	}
	spoken := "1.1"
	if response.ProtoMajor == 2 {
		spoken = "2"
	}
	return fmt.Sprintf("%d\t%d\t%s", response.StatusCode, len(content), spoken), nil
}

func read(name string) []byte {
	content, err := os.ReadFile(name)
	if err != nil {
		panic(err)
	}
	return content
}
