// Asks for a recording: java Recording.java https://HOST:PORT CA.pem AK SK-FILE
//
// Signs (auth-v2), asks for the link of a recording, and plays a file into recording.wav. Needs nothing but a JDK 17.

import java.io.FileInputStream;
import java.io.IOException;
import java.net.URI;
import java.net.URLEncoder;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.KeyStore;
import java.security.cert.CertificateFactory;
import java.time.Duration;
import java.time.Instant;
import java.time.temporal.ChronoUnit;
import java.util.HexFormat;
import java.util.regex.Pattern;
import javax.crypto.Mac;
import javax.crypto.spec.SecretKeySpec;
import javax.net.ssl.SSLContext;
import javax.net.ssl.TrustManagerFactory;

class Recording {
    static final String TYPE = "application/json;charset=UTF-8";
    static String url, ak, secret;
    static HttpClient client;

    public static void main(String[] arguments) throws Exception {
        url = arguments[0];
        client = HttpClient.newBuilder().sslContext(trusting(arguments[1])).build();
        ak = arguments[2];
        secret = Files.readString(Path.of(arguments[3])).strip();

        var link = member("url", ask("getRecordFileUrlFromObs", """
            {"callId":"1637742300-27","beginTime":"2021-11-24 16:25:03","endTime":"2021-11-24 17:25:11","version":"2.0"}"""));
        System.out.println("link " + link.split("\\?")[0]); // whoever has the rest can fetch the recording

        var token = member("token", ask("requestPlayVoice", """
            {"request":{"version":"2.0"},"msgBody":{"fileName":"Y:/record/0/20211124/1637742300.wav"}}"""));
        var play = URI.create(url + "/CCFS/resource/ccfs/playVoice?t=1&version=2.0&st=" + encode(token));
        var voice = client.send(HttpRequest.newBuilder(play).build(), BodyHandlers.ofFile(Path.of("recording.wav")));
        System.out.println("played " + Files.size(voice.body()) + " bytes");
    }

    /** The signature covers exactly these bytes: sign the body that is sent, and the Host that is sent. */
    static String authorization(String path, String body) throws Exception {
        var names = "content-type;host";
        var prefix = "auth-v2/" + ak + "/" + Instant.now().truncatedTo(ChronoUnit.SECONDS) + "/" + names;
        var host = URI.create(url).getAuthority();
        // A query would be a line of its own after the path; there is none here, and then no line either.
        var text = String.join("\n", "POST", path, names, "content-type:" + encode(TYPE), "host:" + encode(host), encode(body));
        return prefix + "/" + hexHmac(hexHmac(secret, prefix), text);
    }

    static String ask(String service, String body) throws Exception {
        var path = "/CCFS/resource/ccfs/" + service;
        var request = HttpRequest.newBuilder(URI.create(url + path)).timeout(Duration.ofSeconds(10))
            .header("Authorization", authorization(path, body)).header("Content-Type", TYPE)
            .POST(HttpRequest.BodyPublishers.ofString(body)).build();
        var answer = client.send(request, BodyHandlers.ofString()).body();
        if (!member("resultCode", answer).equals("0")) throw new IOException(answer);
        return answer;
    }

    /** A member of an answer that is a text; a JSON library does it better where there is one. */
    static String member(String name, String json) throws IOException {
        var found = Pattern.compile("\"" + name + "\"\\s*:\\s*\"([^\"]*)\"").matcher(json);
        if (!found.find()) throw new IOException(json);
        return found.group(1);
    }

    static String encode(String text) {
        return URLEncoder.encode(text, StandardCharsets.UTF_8).replace("+", "%20").replace("*", "%2A").replace("%7E", "~");
    }

    static String hexHmac(String key, String text) throws Exception {
        var mac = Mac.getInstance("HmacSHA256");
        mac.init(new SecretKeySpec(key.getBytes(StandardCharsets.UTF_8), "HmacSHA256"));
        return HexFormat.of().formatHex(mac.doFinal(text.getBytes(StandardCharsets.UTF_8)));
    }

    static SSLContext trusting(String authority) throws Exception {
        var store = KeyStore.getInstance(KeyStore.getDefaultType());
        store.load(null, null);
        try (var file = new FileInputStream(authority)) {
            store.setCertificateEntry("ca", CertificateFactory.getInstance("X.509").generateCertificate(file));
        }
        var trust = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
        trust.init(store);
        var context = SSLContext.getInstance("TLS");
        context.init(null, trust.getTrustManagers(), null);
        return context;
    }
}
