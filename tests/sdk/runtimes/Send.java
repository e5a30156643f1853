import java.io.OutputStream;
import java.net.HttpURLConnection;
import java.net.URI;
import java.net.URLEncoder;
import java.nio.charset.StandardCharsets;
import java.util.Base64;

/** Posts a record as mixpanel-java does, with the JDK's own HTTP client; prints the reply. */
public class Send {
    public static void main(String[] args) throws Exception {
        HttpURLConnection connection = (HttpURLConnection) URI.create(args[0] + "/engage?ip=0").toURL().openConnection();
        connection.setDoOutput(true);
        connection.setRequestProperty("Content-Type", "application/x-www-form-urlencoded;charset=utf8");
        String data = Base64.getEncoder().encodeToString(("[" + args[1] + "]").getBytes(StandardCharsets.UTF_8));
        try (OutputStream body = connection.getOutputStream()) {
            body.write(("data=" + URLEncoder.encode(data, StandardCharsets.UTF_8)).getBytes(StandardCharsets.UTF_8));
        }
        System.out.write(connection.getInputStream().readAllBytes());
        System.out.flush();
    }
}
