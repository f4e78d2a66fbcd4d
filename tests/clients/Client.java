// Sends the requests of a file with java.net.http.HttpClient: java Client.java VERSION CA.pem REQUESTS.tsv
// Columns: name, method, URL, "expect" or "-", body file or "-", headers as "Name: value".
// Prints one line a request: name, status, bytes of the body, HTTP version; or name and the exception.

import java.io.FileInputStream;
import java.io.IOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublisher;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.KeyStore;
import java.security.cert.CertificateFactory;
import java.time.Duration;
import javax.net.ssl.SSLContext;
import javax.net.ssl.TrustManagerFactory;

class Client {
    public static void main(String[] arguments) throws Exception {
        var version = arguments[0].equals("2") ? HttpClient.Version.HTTP_2 : HttpClient.Version.HTTP_1_1;
        var client = HttpClient.newBuilder().version(version).sslContext(trusting(arguments[1])).build();
        for (var line : Files.readAllLines(Path.of(arguments[2]))) {
            var columns = line.split("\t");
            try {
                var response = client.send(request(columns), BodyHandlers.ofByteArray());
                var spoken = response.version() == HttpClient.Version.HTTP_2 ? "2" : "1.1";
                System.out.println(String.join("\t", columns[0], "" + response.statusCode(),
                        "" + response.body().length, spoken));
            } catch (IOException error) {
                System.out.println(columns[0] + "\t" + error);
            }
        }
    }

    private static HttpRequest request(String[] columns) throws IOException {
        BodyPublisher body = columns[4].equals("-")
                ? BodyPublishers.noBody() : BodyPublishers.ofFile(Path.of(columns[4]));
        var request = HttpRequest.newBuilder(URI.create(columns[2])).method(columns[1], body)
                .expectContinue(columns[3].equals("expect")).timeout(Duration.ofSeconds(10));
        for (int column = 5; column < columns.length; column++) {
            var header = columns[column].split(": ", 2);
            request.header(header[0], header[1]);
        }
        return request.build();
    }

    private static SSLContext trusting(String file) throws Exception {
        var store = KeyStore.getInstance(KeyStore.getDefaultType());
        store.load(null, null);
        try (var pem = new FileInputStream(file)) {
            store.setCertificateEntry("ca", CertificateFactory.getInstance("X.509").generateCertificate(pem));
        }
        var factory = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
        factory.init(store);
        var context = SSLContext.getInstance("TLS");
        context.init(null, factory.getTrustManagers(), null);
        return context;
    }
}
