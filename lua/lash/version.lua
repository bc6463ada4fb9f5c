return { text = "0.1.0" }
